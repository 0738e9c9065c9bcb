"""The time of a training, from its events: the steps, and everything around and between them.

The events file of a completed or interrupted run is read line by line; only lines about time are
parsed. Of a resumed run the longest uninterrupted part counts. A long run is read up to its first
``MOST_STEPS`` uninterrupted steps, at most ``MOST_EVENTS`` events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from studio.events import Event, from_line
from studio.runs.series import number
from studio.system.stored_json import open_regular

MOST_STEPS = 1000
MOST_EVENTS = 20_000
_SLEPT = 20.0
"""A step that took longer than this multiple of the usual time is ignored: the machine was
asleep."""
_NAMES = (
    "RunStarted",
    "StepStarted",
    "Phase",
    "Metric",
    "Sample",
    "TrainResumed",
    "StepFinished",
    "StepFailed",
    "RunFinished",
)
_HEADS = tuple(f'{{"event": "{name}"'.encode() for name in _NAMES)
_RUN_WIDE = b'{"event": "RunStarted"'
_LONGEST_STEP_S = 30 * 86_400.0


@dataclass
class Timing:
    """Seconds of one training. ``steps`` are (tokens, seconds) of each optimizer step; ``before`` and
    ``after`` what came before the first and after the last; ``evaluated`` the rows of ``evaluating_s``,
    ``sampled`` the tokens of ``sampling_s``; ``between_s`` what lay between steps besides: saving."""

    steps: list[tuple[float, float]] = field(default_factory=list)
    before_s: float = 0.0
    after_s: float = 0.0
    evaluated: float = 0.0
    evaluating_s: float = 0.0
    sampled: float = 0.0
    sampling_s: float = 0.0
    between_s: float = 0.0

    def steady(self) -> list[tuple[float, float]]:
        """The steps without the first, which warms up, and without those during which the machine
        was asleep."""
        later = self.steps[1:] or self.steps
        usual = median(seconds / tokens for tokens, seconds in later)
        return [(t, s) for t, s in later if s / t < _SLEPT * usual]

    @property
    def tokens_per_s(self) -> float:
        """Tokens by seconds of the steady steps."""
        steady = self.steady()
        return sum(t for t, _ in steady) / sum(s for _, s in steady)

    @property
    def spread(self) -> float:
        """How much the middle half of the steps differ in speed, as a share."""
        speeds = [t / s for t, s in self.steady()]
        if len(speeds) < 4:
            return 0.0
        low, middle, high = quantiles(speeds, n=4)
        return (high - low) / middle

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens of an optimizer step."""
        return sum(t for t, _ in self.steps) / len(self.steps)


def read_timing(events: Path, node: str) -> Timing | None:
    """The timing of one Train node in an events file; ``None`` when no step of it was trained.
    Raises ``OSError``."""
    with open_regular(events) as lines:
        return timing(islice(_events(lines, node), MOST_EVENTS), node)


def _events(lines: Iterable[bytes], node: str) -> Iterator[Event]:
    """The events about time of the run and of one node; the other lines are not parsed."""
    own = f'"node": {json.dumps(node)}'.encode()
    for line in lines:
        if not line.startswith(_HEADS) or not (own in line or line.startswith(_RUN_WIDE)):
            continue
        found = from_line(line)
        if found is not None:
            yield found


def timing(events: Iterable[Event], node: str) -> Timing | None:
    """The longest uninterrupted part of one node's training."""
    best: Timing | None = None
    reader = _Reader()
    for event in events:
        if event.name in ("RunStarted", "TrainResumed") or event.node == node:
            if event.name in ("RunStarted", "StepStarted", "TrainResumed"):
                best, reader = _longer(best, reader.timing), _Reader()
            reader.take(event)
            if len(reader.timing.steps) >= MOST_STEPS:
                break
    return _longer(best, reader.timing)


def _longer(one: Timing | None, other: Timing) -> Timing | None:
    return other if len(other.steps) > (len(one.steps) if one else 0) else one


class _Reader:
    """Adds up one uninterrupted part. The time of a phase is known at the next event."""

    def __init__(self) -> None:
        self.timing = Timing()
        self._last: float | None = None
        self._phase = ""

    def take(self, event: Event) -> None:
        """Add one event of the node."""
        passed = max(0.0, event.time - self._last) if self._last is not None else 0.0
        if event.name == "Metric" and "loss" in event.data:
            self._step(event, passed)
        else:
            self._spend(passed)
        if event.name == "Metric" and "eval_loss" in event.data:
            self.timing.evaluated += _positive(event.get("eval_rows"))
        elif event.name == "Sample":
            self.timing.sampled += _positive(event.get("tokens"))
        elif event.name == "Phase":
            self._phase = str(event.get("phase", ""))
        self._last = event.time

    def _step(self, event: Event, passed: float) -> None:
        tokens, speed = (_positive(event.get(name)) for name in ("tokens", "tokens_per_s"))
        seconds = tokens / speed if speed else 0.0
        if tokens < 1 or not 0 < seconds < _LONGEST_STEP_S:  # damaged
            return
        self._spend(max(0.0, passed - seconds))
        self.timing.steps.append((tokens, seconds))

    def _spend(self, seconds: float) -> None:
        """Add seconds to the current phase."""
        timing = self.timing
        if self._phase == "evaluate":
            timing.evaluating_s += seconds
        elif self._phase == "sample":
            timing.sampling_s += seconds
        elif not timing.steps:
            timing.before_s += seconds
        elif self._phase == "train":
            timing.between_s += seconds
        else:
            timing.after_s += seconds


def _positive(value: Any) -> float:
    """A field of an event as a number; 0 if it is missing, damaged or not positive."""
    found = number(value)
    return found if 0 < found < math.inf else 0.0
