"""A run as text: progress on one line in a terminal, a line every 5 % elsewhere, results at the end.

It reads events and the run state; it controls nothing.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from bootstrap.requirements import launcher
from studio.cli.terminal import draw
from studio.events import Event
from studio.graph.unused import Untrained
from studio.runs.folder import RunFolder
from studio.runs.state import NodeState, RunState
from studio.runs.status import look_of
from studio.shown_text import line, short
from studio.system.number_text import duration, time_left

EVERY_PERCENT = 5
BAR_WIDTH = 24
REDRAW_S = 0.1
SHOWN_LETTERS = 160
RESULTS = {
    "adapter": "Adapter",
    "merged_model": "Merged model",
    "tuned_model": "Tuned model",
    "gguf": "GGUF model",
    "report": "Report",
}


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
        if event.name in ("Progress", "Metric", "Phase"):
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
        node = self._state.nodes.get(event.node or "")
        if node is None or node.state != "running":
            return
        if self._live:
            self._draw(node)
        elif event.name == "Progress":
            self._plain_progress(event, node)

    def _plain_progress(self, event: Event, node: NodeState) -> None:
        if not node.total or node.phase == "train":
            return
        part = math.floor(100 * (node.done or 0) / node.total / EVERY_PERCENT)
        key = (event.node, node.phase)
        if self._reported.get(key, 0) < part:
            self._reported[key] = part
            title = line(node.title, SHOWN_LETTERS)
            print(f"  {title}: {node.phase} {part * EVERY_PERCENT} %", flush=True)

    def _draw(self, node: NodeState) -> None:
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_S:
            return
        self._drawn_at = now
        text = progress_line(node, self._state.time_left_s(time.time()))
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


def progress_line(node: NodeState, left_s: float | None) -> str:
    """The bar of a running node."""
    share = min(1.0, (node.done or 0.0) / node.total) if node.total else 0.0
    full = round(share * BAR_WIDTH)
    counted = f"{node.done or 0:,.0f}/{node.total:,.0f} {node.unit}" if node.total else ""
    left = time_left(left_s) if left_s is not None else ""
    loss = f"loss {node.last_loss:.4f}" if node.last_loss is not None else ""
    bar = f"[{'#' * full}{'-' * (BAR_WIDTH - full)}] {100 * share:3.0f} %" if node.total else "..."
    parts = [node.title, node.phase, bar, counted.strip(), loss, left]
    return "  ".join(p for p in parts if p)


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float | int) else str(value)


def _loss_line(state: RunState, event: Event) -> str:
    of = f"/{event.get('steps')}" if event.get("steps") else ""
    parts = [f"  step {event.get('step')}{of}", f"loss {_figure(event.get('loss'))}"]
    speed = event.get("tokens_per_s")
    if isinstance(speed, (int, float)):
        parts.append(f"{speed:,.0f} tokens/s")
    left = state.time_left_s(event.time)
    if left is not None:
        parts.append(time_left(left))
    return "  ".join(parts)


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
    return f"  resuming after step {event.get('step')}"


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
    took = (state.finished or 0.0) - (state.started or 0.0)
    print(f"{look_of(status).word} after {duration(took)}.")
    if untrained is not None and status == "completed":
        print(f"{untrained.after} {untrained.hint}")
    for node, evaluation in state.evaluations.items():
        if len(state.evaluations) > 1:
            print(f"{state.title_of(node)}:")
        print(evaluation_table(evaluation))
    for artifact in state.artifacts:
        words = RESULTS.get(str(artifact.get("kind")))
        if words:
            title = line(state.node(artifact["node"]).title, SHOWN_LETTERS)
            print(f"{words} ({title}): {artifact.get('path')}")
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
    lines = [f"On {rows} held-out rows:" if rows else "On held-out rows:"]
    lines.append(f"  {'measure':<20}{'before':>10}{'after':>10}")
    for name, pair in (evaluation.get("measures") or {}).items():
        before, after = (_share(pair.get(k)) for k in ("before", "after"))
        lines.append(f"  {line(str(name)).replace('_', ' '):<20}{before:>10}{after:>10}")
    return "\n".join(lines)


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else "-"
