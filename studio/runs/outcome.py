"""What came of a run, in words: how it ended and where, what was learned, what was made, what to do next.

The banner, the Results panel, the list of runs and the terminal show these sentences, so that they say the
same. It reads a ``RunState`` only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studio.export_folder.parity import needs_hint, short_sentence_of, together, worst
from studio.runs.progress import steps_of
from studio.runs.series import number
from studio.runs.state import RunState, is_in_training
from studio.system.number_text import duration, percent, significant

KINDS = {
    "dataset": "Dataset",
    "base_model": "Base model",
    "adapter": "Adapter",
    "merged_model": "Merged model",
    "tuned_model": "Tuned model",
    "report": "Report",
    "checkpoint": "Checkpoint",
    "gguf": "GGUF model",
    "adapter_gguf": "GGUF adapter",
    "ollama_folder": "Ollama folder",
    "export": "Export",
}
"""Kind of an artifact -> its name."""
PREPARED = ("dataset", "base_model")
"""Kinds that are only prepared for the training."""
_HOW = {
    "stopped": "Stopped",
    "suspended": "Suspended",
    "interrupted": "Interrupted",
    "failed": "Failed",
}
UNFINISHED = tuple(_HOW)
_NAMES = ("GGUF", "Ollama")  # written with a capital in a sentence
_FIRST = (
    "merged_model",
    "tuned_model",
    "gguf",
    "ollama_folder",
    "adapter_gguf",
    "export",
    "adapter",
)
_FEWEST_EVALUATIONS = 2  # so that one is the best


@dataclass(frozen=True)
class Outcome:
    """``headline`` says how the run ended; ``learned`` are sentences about loss and measures; ``made`` the
    artifacts that were made for use, the most useful first, and ``prepared`` the others; ``next`` says
    what to do."""

    headline: str
    learned: tuple[str, ...] = ()
    made: tuple[Mapping[str, Any], ...] = ()
    prepared: tuple[Mapping[str, Any], ...] = ()
    next: str = ""

    def sentence(self) -> str:
        """All of it in one line."""
        made = made_words(self.made)
        return " ".join(p for p in (self.headline, *self.learned, made, self.next) if p)


def outcome_of(state: RunState, name: str = "") -> Outcome:
    """What came of a run that has ended; ``name`` is used if its events do not name the project."""
    made, prepared = sorted_artifacts(state.artifacts)
    if state.status != "completed":
        return Outcome(ended_words(state), learned(state), made, prepared)
    but = failed_words(state)
    if state.nodes and all(node.state == "skipped" for node in state.nodes.values()):
        headline = f"Nothing has changed since the last run; all results were reused{but}."
    else:
        spent = ""
        if state.started is not None and state.finished is not None:
            spent = f" in {duration(state.finished - state.started)}"
        headline = f"{state.name or name or 'The run'} finished{spent}{_then_resumed(state)}{but}."
    return Outcome(headline, learned(state), made, prepared, next_step(state))


def failed_words(state: RunState) -> str:
    """``, but an export failed its check``; empty if none did."""
    count = len({c["node"] for c in state.checks if c.get("verdict") == "red"})
    if not count:
        return ""
    return ", but " + ("an export" if count == 1 else f"{count} exports") + " failed the check"


def ended_words(state: RunState) -> str:
    """Where an unfinished run ended: ``Failed in Train after step 3 of 6.``"""
    return f"{_HOW.get(state.status, state.status.capitalize())} {_where(state)}{_then_resumed(state)}."


def _where(state: RunState) -> str:
    if state.ended_in is not None:
        return f"in {state.title_of(state.ended_in)} {place_words(state, state.ended_in)}"
    ended = [n for n, node in state.nodes.items() if node.state in ("done", "skipped")]
    return f"after {state.title_of(ended[-1])}" if ended else "before the first step of the run"


def resumed_words(state: RunState, node: str | None = None) -> str:
    """``resumed after step 12``: where the run, or the training of one node, was resumed last; empty if it was not."""
    steps = [number(r.get("step")) for r in state.resumes if node in (None, r["node"])]
    if steps and math.isfinite(steps[-1]):
        return f"resumed after step {steps[-1]:,.0f}"
    return "resumed" if steps or (node is None and state.resumed) else ""


def _then_resumed(state: RunState) -> str:
    words = resumed_words(state)
    return f", {words}" if words else ""


def place_words(state: RunState, name: str) -> str:
    """The phase and the step at which a node ended: ``after step 3 of 6``, ``while loading the model``."""
    node = state.node(name)
    doing = node.phase_title[:1].lower() + node.phase_title[1:]
    if is_in_training(state, name):
        done, total = steps_of(state, name)
        where = f"after step {done:,.0f} of {total:,.0f}" if done and total else "before step 1"
        pause = node.phase not in ("", "train") and doing
        return f"{where} while {doing}" if pause else where
    if doing:
        return f"while {doing}"
    return f"in the phase “{node.phase}”" if node.phase else "at its start"


# ------------------------------------------------------------ what was learned


def learned(state: RunState) -> tuple[str, ...]:
    """Loss, validation loss and best step of each training, why it ended early, and the measures before
    and after."""
    trainings = [n for n, series in state.metrics.items() if series.step]
    found = []
    for name in trainings:
        title = f"{state.title_of(name)}: " if len(trainings) > 1 else ""
        words = _losses(state, name)
        found += [f"{title}{words}"] if words else []
        ended = state.early_stops.get(name)
        found += [early_words(ended)] if ended is not None else []
    return (*found, *_measures(state), *_checks(state))


def _checks(state: RunState) -> list[str]:
    """What the checks of the exports found: a sentence for each of the worst, and one for all others of a verdict."""
    if len(state.checks) == 1:
        return [short_sentence_of(state.checks[0])]
    several = len({c["node"] for c in state.checks}) > 1
    verdicts = [str(c.get("verdict")) for c in state.checks]
    found = []
    for verdict in dict.fromkeys(("green", *verdicts)):
        checks = [c for c in state.checks if str(c.get("verdict")) == verdict]
        titles = [state.title_of(str(c["node"])) if several else "" for c in checks]
        if verdict != "green" and verdict == worst(verdicts):
            named = zip(titles, checks, strict=True)
            found += [
                f"{t}, {short_sentence_of(c)}" if t else short_sentence_of(c) for t, c in named
            ]
        elif checks:
            found.append(together(verdict, checks, titles))
    return found


def _losses(state: RunState, name: str) -> str:
    series = state.metrics[name]
    parts = []
    for title, values in (("Loss", series.loss), ("validation loss", series.eval_loss)):
        known = [v for v in (values[0], values[-1]) if math.isfinite(v)] if len(values) else []
        if known:
            parts.append(f"{title} {' → '.join(significant(v) for v in known)}")
    best = best_of(state, name)
    if best is not None:
        parts.append(f"best {significant(best[1])} at step {best[0]:,.0f}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def best_of(state: RunState, node: str | None) -> tuple[float, float] | None:
    """Step and loss of the best evaluation, if there is more than one: the one reported by the
    training, if any (with a minimum improvement it may not be the lowest)."""
    series = state.metrics.get(node or "")
    if series is None or len(series.eval_step) < _FEWEST_EVALUATIONS:
        return None
    ended = state.early_stops.get(node or "", {})
    kept = [c for c in state.checkpoints if c["node"] == node and c.get("reason") == "best"]
    reported = _pair(ended, "best_step", "best_eval_loss") or (
        _pair(kept[-1], "step", "eval_loss") if kept else None
    )
    return reported or series.best_eval()


def early_words(record: Mapping[str, Any]) -> str:
    """The step and the reason of an early stop."""
    where = f"Stopped early after step {record.get('step')} of {record.get('steps')}."
    return f"{where} {record.get('reason') or ''}".strip()


def _measures(state: RunState) -> list[str]:
    several = len(state.evaluations) > 1
    found = []
    for node, evaluation in state.evaluations.items():
        for name, pair in (evaluation.get("measures") or {}).items():
            before, after = pair.get("before"), pair.get("after")
            if isinstance(before, (int, float)) and isinstance(after, (int, float)):
                title = name.replace("_", " ").capitalize()
                title = f"{state.title_of(node)}, {title.lower()}" if several else title
                found.append(f"{title}: {percent(before)} → {percent(after)}.")
    return found


# ------------------------------------------------------------ what was made, and what to do


def sorted_artifacts(
    artifacts: list[dict[str, Any]],
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """The artifacts made for use, models first, and those that were only prepared for the training."""

    def rank(artifact: Mapping[str, Any]) -> tuple[int, bool]:
        kind = str(artifact.get("kind"))
        place = _FIRST.index(kind) if kind in _FIRST else len(_FIRST)
        return place, bool(artifact.get("exported"))

    made = [a for a in artifacts if a.get("kind") not in PREPARED]
    return tuple(sorted(made, key=rank)), tuple(a for a in artifacts if a.get("kind") in PREPARED)


def artifact_words(artifact: Mapping[str, Any]) -> str:
    """The displayed name of an artifact: “Merged model” for ``merged_model``, prefixed with “Exported” if it was
    written by an Export node."""
    kind = str(artifact.get("kind") or "file")
    words = KINDS.get(kind, kind.replace("_", " ").capitalize())
    kept = words.startswith(_NAMES)
    return f"Exported {words if kept else words.lower()}" if artifact.get("exported") else words


def made_words(made: tuple[Mapping[str, Any], ...]) -> str:
    """``Made: merged model, 2 adapters.``"""
    counts = Counter(artifact_words(artifact) for artifact in made)
    words = [_counted(title, count) for title, count in counts.items()]
    return f"Made: {', '.join(words)}." if words else ""


def _counted(title: str, count: int) -> str:
    title = title if title.startswith(_NAMES) else title[:1].lower() + title[1:]
    return title if count == 1 else f"{count} {title}s"


def next_step(state: RunState) -> str:
    """What to do with the results, of what the program offers."""
    failed = next((c for c in state.checks if c.get("verdict") == "red"), None)
    if failed is not None:
        what = f"Do not use the export of {state.title_of(str(failed['node']))} as it is."
        return f"{what} {needs_hint(failed)}".strip()
    kinds = {str(a.get("kind")) for a in state.artifacts}
    types = {node.type for node in state.nodes.values()}
    trained = kinds & {"adapter", "tuned_model"}
    if not trained:
        return ""
    if any(e.get("examples") for e in state.evaluations.values()):
        compare = "compare the answers in Results"
    elif "evaluate" not in types:
        compare = "add an Evaluate node to compare answers"
    else:
        compare = ""
    if "export" in types:
        use = "use the exported files"
    elif "merge" in types or "tuned_model" in kinds:
        use = "add an Export node to share the model"
    else:
        use = "add Merge and Export nodes to share the model"
    return f"Next: {f'{compare}, or {use}' if compare else use}."


def _pair(record: Mapping[str, Any], step: str, loss: str) -> tuple[float, float] | None:
    found = record.get(step), record.get(loss)
    return (float(found[0]), float(found[1])) if all(map(_known, found)) else None  # type: ignore[arg-type]


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
