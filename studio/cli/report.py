"""A run as text: progress on one line in a terminal, a line every 5 % elsewhere, results at the end.

It reads events and the run state; it controls nothing.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bootstrap.requirements import launcher
from studio.cli.made import programs_of
from studio.cli.terminal import draw
from studio.events import Event
from studio.export_folder.mixture import Table, mixture_in, tables
from studio.export_folder.parity import COLUMNS, rows_of
from studio.graph.unused import Untrained
from studio.runs.folder import RunFolder
from studio.runs.outcome import artifact_words, outcome_of
from studio.runs.progress import Progress, progress_of
from studio.runs.state import NodeState, RunState
from studio.shown_text import line, short
from studio.system.number_text import duration, quantity

EVERY_PERCENT = 5
BAR_WIDTH = 24
REDRAW_S = 0.1
SHOWN_LETTERS = 160
SHOWN_OUTCOME = 1000


class Reporter:
    """Prints the events of one run to standard output."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._live = sys.stdout.isatty()
        self._line = ""
        self._drawn_at = 0.0
        self._reported: dict[tuple[str | None, str], int] = {}

    def tell(self, event: Event) -> None:
        """Print one event (the state already includes it)."""
        teller = _TELLERS.get(event.name)
        text = teller(self._state, event) if teller else None
        if event.name == "Metric":
            text = self._metric(event)
        if text:
            self._print(text)
        if event.name in ("Forecast", "StepStarted", "Progress", "Metric", "Phase"):
            self._progress(event)

    def close(self) -> None:
        """Remove the progress line."""
        self._erase()

    def _metric(self, event: Event) -> str | None:
        if "eval_loss" in event.data:
            return f"  step {event.get('step')}: validation loss {_figure(event.get('eval_loss'))}"
        if "loss" not in event.data or not self._due(event, "loss"):
            return None
        return _loss_line(self._state, event)

    def _due(self, event: Event, kind: str) -> bool:
        """Whether another 5 % of the steps have passed (always, when the number is unknown)."""
        steps, step = event.get("steps"), event.get("step")
        if not steps:
            return True
        part = math.floor(100 * step / steps / EVERY_PERCENT)
        key = (event.node, kind)
        if self._reported.get(key, -1) >= part and step != 1:
            return False
        self._reported[key] = part
        return True

    def _progress(self, event: Event) -> None:
        if self._live:
            self._draw()
        elif event.name in ("Progress", "Phase"):
            self._plain_progress(event)

    def _plain_progress(self, event: Event) -> None:
        """What begins, and a line every 5 %, outside of a training."""
        node = self._state.nodes.get(event.node or "")
        progress = progress_of(self._state, event.time)
        if node is None or node.state != "running" or progress is None:
            return
        if progress.phase.startswith("Train "):
            return
        part = 0
        if event.name == "Progress":
            part = (
                math.floor(100 * (node.done or 0) / node.total / EVERY_PERCENT) if node.total else 0
            )
            if self._reported.get((event.node, node.phase), 0) >= part:
                return
        self._reported[(event.node, node.phase)] = part
        print(line(f"  {progress.sentence()}"), flush=True)

    def _draw(self) -> None:
        now = time.monotonic()
        progress = progress_of(self._state, time.time())
        if progress is None or now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at = now
        text = progress_line(progress, self._state.nodes.get(progress.node))
        self._erase()
        self._line = line(text)[: shutil.get_terminal_size().columns - 1]
        draw("\r" + self._line)

    def _erase(self) -> None:
        if self._line:
            draw("\r" + " " * len(self._line) + "\r")
            self._line = ""

    def _print(self, text: str) -> None:
        self._erase()
        print(line(text))


def progress_line(progress: Progress, node: NodeState | None) -> str:
    """The bar of a run, with what it does and the time left."""
    full = round(progress.fraction * BAR_WIDTH)
    bar = f"[{'#' * full}{'-' * (BAR_WIDTH - full)}] {progress.percent}"
    loss = f"loss {node.last_loss:.4f}" if node and node.last_loss is not None else ""
    return "  ".join(p for p in (progress.where, bar, loss, progress.left) if p)


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float | int) else str(value)


def _loss_line(state: RunState, event: Event) -> str:
    of = f"/{event.get('steps')}" if event.get("steps") else ""
    parts = [f"  step {event.get('step')}{of}", f"loss {_figure(event.get('loss'))}"]
    speed = event.get("tokens_per_s")
    if isinstance(speed, (int, float)):
        parts.append(f"{speed:,.0f} tokens/s")
    progress = progress_of(state, event.time)
    if progress is not None:
        parts += [progress.percent, progress.left]
    return "  ".join(parts)


def _forecast(state: RunState, event: Event) -> str:
    progress = progress_of(state, event.time)
    return " ▸ ".join(progress.stages) if progress else ""


def _step_started(state: RunState, event: Event) -> str:
    del state
    return f"[{event.get('index')}/{event.get('count')}] {event.get('title')}"


def _step_finished(state: RunState, event: Event) -> str:
    del state
    return (
        "  unchanged, reused"
        if event.get("cached")
        else f"  done in {duration(event.get('seconds') or 0)}"
    )


def _notice(state: RunState, event: Event) -> str:
    del state
    level = "note" if event.get("level") == "info" else "warning"
    return f"  {level}: {event.get('sentence')} {event.get('hint') or ''}".rstrip()


def _step_failed(state: RunState, event: Event) -> str:
    del state
    where = event.get("file") or ""
    if where and event.get("line"):
        where += f":{event.get('line')}"
    place = ".".join(str(p) for p in (event.node, event.get("field")) if p)
    head = ": ".join(p for p in (where, place) if p)
    text = f"{event.get('sentence')} {event.get('hint') or ''}".rstrip()
    return f"  failed: {head + ': ' if head else ''}{text}"


def _resumed(state: RunState, event: Event) -> str:
    del state
    return f"  resumed after step {event.get('step')}"


def _early_stopped(state: RunState, event: Event) -> str:
    del state
    return f"  stopped early after step {event.get('step')}: {event.get('reason')}"


def _sampled(state: RunState, event: Event) -> str:
    del state
    answer = " ".join(str(event.get("text", "")).split()) or "(no text)"
    return (
        f"  step {event.get('step')}: {short(str(event.get('prompt')))} → {answer[:SHOWN_LETTERS]}"
    )


_TELLERS: dict[str, Callable[[RunState, Event], str]] = {
    "Forecast": _forecast,
    "StepStarted": _step_started,
    "StepFinished": _step_finished,
    "StepFailed": _step_failed,
    "Notice": _notice,
    "TrainResumed": _resumed,
    "EarlyStopped": _early_stopped,
    "Sample": _sampled,
}


def print_results(
    folder: RunFolder, state: RunState, status: str, untrained: Untrained | None = None
) -> None:
    """How a run ended: what was measured, where things are, and whether nothing was trained."""
    found = outcome_of(state)
    took = (state.finished or 0.0) - (state.started or 0.0)
    spent = "" if status == "completed" else f" It ran for {duration(took)}."
    print(line(f"{found.headline}{spent}", SHOWN_OUTCOME))
    if untrained is not None and status == "completed":
        print(f"{untrained.after} {untrained.hint}")
    for sentence in found.learned:
        print(line(sentence, SHOWN_OUTCOME))
    for node, evaluation in state.evaluations.items():
        if len(state.evaluations) > 1:
            print(f"{state.title_of(node)}:")
        print(evaluation_table(evaluation))
    for node in dict.fromkeys(c["node"] for c in state.checks):
        print(f"Check of the export of {line(state.title_of(str(node)), SHOWN_LETTERS)}:")
        print(check_table([c for c in state.checks if c["node"] == node]))
    for each in state.artifacts:
        mixture = mixture_in(each)
        for table in tables(mixture) if mixture is not None else ():
            print(f"{state.title_of(str(each.get('node')))}: {mixture_table(table)}")
    for artifact in found.made:
        kind = line(str(artifact.get("kind")), SHOWN_LETTERS)
        words = artifact_words({**artifact, "kind": kind})
        title = line(state.node(artifact["node"]).title, SHOWN_LETTERS)
        print(f"{words} ({title}): {artifact.get('path')}")
        if artifact.get("url"):
            print(f"  on the Hub: {line(str(artifact['url']), SHOWN_OUTCOME)}")
    if found.next:
        print(found.next)
    programs = programs_of(state) if status == "completed" else []
    if programs:
        place = f"{folder.id} --runs {_quoted(folder.path.parent)}"
        print(f"Commands for {', '.join(programs)}: {_program()} commands {place}")
    print(f"Run folder: {folder.path}")
    if status == "interrupted":
        print(
            f"The run host exited unexpectedly; the last lines of {folder.log_path.name} may "
            "contain the reason."
        )
    remains = folder.remains()
    if remains.offered(status):
        print(remains.sentence())
        print(f"Resume with: {_program()} resume {folder.id} --runs {_quoted(folder.path.parent)}")


def _program() -> str:
    """How this program was started, as far as it can be typed again."""
    started = sys.argv[0] if sys.argv else ""
    return f"{launcher()} {_quoted(started)}" if started.endswith("main.py") else "lora-studio"


def _quoted(text: object) -> str:
    """A word of a command that can be copied, also with spaces in it."""
    return f'"{text}"' if sys.platform == "win32" else shlex.quote(str(text))


def evaluation_table(evaluation: dict[str, Any]) -> str:
    """Held-out measures before and after, in per cent."""
    rows = evaluation.get("rows")
    counted = quantity(rows, "held-out row") if isinstance(rows, int) else "held-out rows"
    lines = [f"On {counted}:"]
    lines.append(f"  {'measure':<20}{'before':>10}{'after':>10}")
    for name, pair in (evaluation.get("measures") or {}).items():
        before, after = (_share(pair.get(k)) for k in ("before", "after"))
        lines.append(f"  {line(str(name)).replace('_', ' '):<20}{before:>10}{after:>10}")
    return "\n".join(lines)


def check_table(checks: Sequence[Mapping[str, Any]]) -> str:
    """The parity check of an export, a row for each part, with causes and what to do below it."""
    found = [row for check in checks for row in rows_of(check)]
    rows = [COLUMNS, *(tuple(line(word) for word in row.words) for row in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  " + "  ".join(w.ljust(n) for w, n in zip(r, widths, strict=True)) for r in rows]
    told = (f"  {row.words[0]}: {row.cause}" for row in found if row.cause)
    lines += [line(text, SHOWN_OUTCOME) for text in told]
    return "\n".join(text.rstrip() for text in lines)


def mixture_table(table: Table) -> str:
    """What a mixed adapter consists of, in columns."""
    rows = [table.head, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    lines = (
        "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join([table.title, *(f"  {text}" for text in lines)])


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else "-"
