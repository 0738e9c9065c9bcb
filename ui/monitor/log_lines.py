"""Events turned into the lines of the log, in plain words.

Not every event is a line: metrics, which the curves show, are logged every few seconds, progress
never. No Qt here; the panel only paints the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from studio.events import Event
from studio.runs.outcome import artifact_words
from studio.runs.story import METRIC_EVERY_S
from studio.shown_text import line
from studio.system.number_text import percent
from ui.monitor import words

Level = Literal["detail", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("detail", "info", "warning", "error")
MOST_IN_LINE = 4000

PHASE_WORDS = {
    "load": "loading the model",
    "import": "importing the model",
    "download": "downloading",
    "read": "loading the rows",
    "tokenize": "tokenizing",
    "train": "training",
    "evaluate": "evaluating",
    "sample": "generating samples",
    "save": "saving",
    "verify": "verifying the result",
    "merge": "merging",
    "combine": "combining adapters",
    "export": "writing the export",
    "generate": "generating answers",
}
REASON_WORDS = {
    "cadence": "",
    "stop": " before stopping",
    "save": " on request",
    "end": " at the end",
    "best": ": the best evaluation so far",
    "finite": ", the last one with finite values",
}


@dataclass(frozen=True)
class LogLine:
    """One line: time (Unix seconds), severity and text."""

    time: float
    level: Level
    text: str

    def shown(self) -> str:
        """The line as the panel shows and copies it."""
        mark = {"warning": "Warning: ", "error": "Error: "}.get(self.level, "")
        return f"{words.clock(self.time)}  {mark}{line(self.text, MOST_IN_LINE)}"


class LogWriter:
    """Makes lines from events in their order; remembers node titles and when a metric was last
    logged."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}
        self._told_at: dict[str, float] = {}
        self._makers: dict[str, Callable[[Event], Iterable[LogLine]]] = {
            "RunStarted": self._run_started,
            "StepStarted": self._step_started,
            "Phase": self._phase,
            "Metric": self._metric,
            "TrainResumed": self._train_resumed,
            "CheckpointSaved": self._checkpoint,
            "EarlyStopped": self._early_stopped,
            "NonFinite": self._non_finite,
            "Sample": self._sample,
            "Evaluation": self._evaluation,
            "ArtifactSaved": self._artifact,
            "Notice": self._notice,
            "StepFinished": self._step_finished,
            "StepFailed": self._step_failed,
            "RunFinished": self._run_finished,
        }

    def lines(self, event: Event) -> Iterable[LogLine]:
        """The lines of one event."""
        maker = self._makers.get(event.name)
        return maker(event) if maker else ()

    def _title(self, event: Event) -> str:
        return self._titles.get(event.node or "", event.node or "Run")

    def _run_started(self, event: Event) -> Iterable[LogLine]:
        for node in event.get("nodes") or ():
            self._titles[str(node.get("id"))] = str(node.get("title") or node.get("id"))
        verb = "resumed" if event.get("resumed") else "started"
        device = f" on {event.get('device')}" if event.get("device") else ""
        yield _info(event, f"Run “{event.get('name') or event.get('run')}” {verb}{device}.")

    def _step_started(self, event: Event) -> Iterable[LogLine]:
        if event.node and event.get("title"):
            self._titles[event.node] = str(event.get("title"))
        index, count = event.get("index"), event.get("count")
        place = f" (step {index} of {count})" if isinstance(index, int) and count else ""
        yield _info(event, f"{self._title(event)} started{place}.")

    def _phase(self, event: Event) -> Iterable[LogLine]:
        phase = str(event.get("phase") or "")
        what = event.get("title") or PHASE_WORDS.get(phase, phase)
        yield LogLine(event.time, "detail", f"{self._title(event)}: {what}.")

    def _metric(self, event: Event) -> Iterable[LogLine]:
        evaluated = event.data.get("eval_loss") is not None
        if not evaluated and (event.data.get("loss") is None or not self._due(event)):
            return ()
        step, steps = event.get("step"), event.get("steps")
        where = f"step {step} of {steps}" if steps else f"step {step}"
        if evaluated:
            loss = _number(event.get("eval_loss"))
            return (_info(event, f"{self._title(event)}: validation loss {loss} at {where}."),)
        speed = event.get("tokens_per_s")
        extra = f", {_number(speed)} tokens/s" if speed is not None else ""
        loss = _number(event.get("loss"))
        told = f"{self._title(event)}: {where}, loss {loss}{extra}."
        return (LogLine(event.time, "detail", told),)

    def _due(self, event: Event) -> bool:
        node = event.node or ""
        if abs(event.time - self._told_at.get(node, -METRIC_EVERY_S)) < METRIC_EVERY_S:
            return False
        self._told_at[node] = event.time
        return True

    def _train_resumed(self, event: Event) -> Iterable[LogLine]:
        yield _info(event, f"{self._title(event)} resumes after step {event.get('step')}.")

    def _checkpoint(self, event: Event) -> Iterable[LogLine]:
        why = REASON_WORDS.get(str(event.get("reason")), "")
        yield _info(
            event, f"{self._title(event)}: checkpoint saved at step {event.get('step')}{why}."
        )

    def _early_stopped(self, event: Event) -> Iterable[LogLine]:
        where = f"{event.get('step')} of {event.get('steps')}"
        yield _info(
            event, f"{self._title(event)} stopped early after step {where}. {event.get('reason')}"
        )

    def _non_finite(self, event: Event) -> Iterable[LogLine]:
        for row in event.get("rows") or ():
            place = f"{row.get('file')}:{row.get('line')}"
            yield LogLine(event.time, "error", f"In this step: {place}: {row.get('text')}")

    def _sample(self, event: Event) -> Iterable[LogLine]:
        answer = " ".join(str(event.get("text") or "").split())
        yield LogLine(
            event.time,
            "detail",
            f"{self._title(event)}: step {event.get('step')}: {event.get('prompt')} → {answer}",
        )

    def _evaluation(self, event: Event) -> Iterable[LogLine]:
        for name, pair in (event.get("measures") or {}).items():
            before, after = pair.get("before"), pair.get("after")
            extra = f"{_share(before)} before and {_share(after)} after fine-tuning"
            yield _info(event, f"{self._title(event)}: {name.replace('_', ' ')} {extra}.")

    def _artifact(self, event: Event) -> Iterable[LogLine]:
        kind = artifact_words(event.data)
        how = "reused from an earlier run" if event.get("cached") else "saved"
        yield _info(event, f"{kind} {how}: {event.get('path')}")

    def _notice(self, event: Event) -> Iterable[LogLine]:
        level: Level = "info" if event.get("level") == "info" else "warning"
        text = f"{event.get('sentence')} {event.get('hint') or ''}".strip()
        yield LogLine(event.time, level, text)

    def _step_finished(self, event: Event) -> Iterable[LogLine]:
        if event.get("cached"):
            yield _info(event, f"{self._title(event)}: unchanged, the earlier result is reused.")
            return
        yield _info(event, f"{self._title(event)} done in {words.duration(event.get('seconds'))}.")

    def _step_failed(self, event: Event) -> Iterable[LogLine]:
        title = event.get("title")
        head = f"{title}. " if title and event.get("trace") else ""
        hint = (
            f" {event.get('hint')}" if event.get("hint") else ""
        )  # found and copied with its error
        yield LogLine(event.time, "error", f"{head}{event.get('sentence') or title}{hint}")
        for row in str(event.get("trace") or "").splitlines():
            yield LogLine(event.time, "detail", f"    {row}")

    def _run_finished(self, event: Event) -> Iterable[LogLine]:
        status = str(event.get("status"))
        level: Level = "error" if status == "failed" else "info"
        spent = event.get("seconds")
        after = f" after {words.duration(spent)}" if spent is not None else ""
        yield LogLine(event.time, level, f"Run {status}{after}.")


def _info(event: Event, text: str) -> LogLine:
    return LogLine(event.time, "info", text)


def _number(value: object) -> str:
    return words.number_text(value) if isinstance(value, (int, float)) else str(value)


def _share(value: object) -> str:
    return percent(value) if isinstance(value, (int, float)) else words.MISSING
