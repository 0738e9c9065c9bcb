"""Series of one node's metrics over a run: arrays of doubles that only grow, except after a resume.

Arrays of one kind have equal lengths; a metric that a step did not report is NaN. Times are Unix
seconds. NumPy copies such an array at once, where a list of a million floats would take a noticeable time.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MEMORY_FIELDS = (
    "ram_process_gib",
    "ram_system_gib",
    "vram_allocated_gib",
    "vram_reserved_gib",
    "vram_device_gib",
)
TRAIN_FIELDS = ("step", "time", "loss", "learning_rate", "grad_norm", "tokens_per_s", "epoch")
_EVAL = ("eval_step", "eval_time", "eval_loss")
Column: TypeAlias = "array[float]"
Memory: TypeAlias = dict[str, tuple[Column, Column]]
"""Reading -> times and values (GiB)."""


def column(values: Iterable[float] = ()) -> Column:
    """The values as an array of doubles."""
    return array("d", values)


@dataclass
class Series:
    """Metrics by optimizer step; ``steps`` is the total number of steps, 0 if unknown."""

    step: Column = field(default_factory=column)
    time: Column = field(default_factory=column)
    loss: Column = field(default_factory=column)
    learning_rate: Column = field(default_factory=column)
    grad_norm: Column = field(default_factory=column)
    tokens_per_s: Column = field(default_factory=column)
    epoch: Column = field(default_factory=column)
    eval_step: Column = field(default_factory=column)
    eval_time: Column = field(default_factory=column)
    eval_loss: Column = field(default_factory=column)
    memory: Memory = field(default_factory=dict)
    steps: int = 0

    def add(self, when: float, data: Mapping[str, Any]) -> None:
        """One ``Metric``. A repeated step (a resume without an event) replaces the later points."""
        self.steps = int(data.get("steps") or self.steps)
        step, get = number(data.get("step")), data.get
        if not math.isfinite(step):  # a damaged event
            return
        if "loss" in data:
            if self.step and step <= self.step[-1]:
                self._cut(TRAIN_FIELDS, bisect_left(self.step, step))
            self.step.append(step)
            self.time.append(when)
            self.loss.append(number(get("loss")))
            self.learning_rate.append(number(get("learning_rate")))
            self.grad_norm.append(number(get("grad_norm")))
            self.tokens_per_s.append(number(get("tokens_per_s")))
            self.epoch.append(number(get("epoch")))
        if "eval_loss" in data:
            if self.eval_step and step <= self.eval_step[-1]:
                self._cut(_EVAL, bisect_left(self.eval_step, step))
            self.eval_step.append(step)
            self.eval_time.append(when)
            self.eval_loss.append(number(get("eval_loss")))

    def cut_after(self, step: float) -> None:
        """Drop the points after a step: they are not part of the resumed run."""
        self._cut(TRAIN_FIELDS, bisect_right(self.step, step))
        self._cut(_EVAL, bisect_right(self.eval_step, step))

    def _cut(self, names: tuple[str, ...], count: int) -> None:
        for name in names:
            del getattr(self, name)[count:]

    def best_eval(self) -> tuple[float, float] | None:
        """Step and validation loss of the best evaluation, the earliest of equal ones."""
        found = [(loss, step) for step, loss in zip(self.eval_step, self.eval_loss, strict=True)]
        finite = [pair for pair in found if math.isfinite(pair[0])]
        return min(finite)[::-1] if finite else None

    def shift(self, seconds: float) -> None:
        """Shift all times, so that a pause of the run leaves no gap in the plots."""
        self.time = column(t + seconds for t in self.time)
        self.eval_time = column(t + seconds for t in self.eval_time)
        shift_memory(self.memory, seconds)


def add_memory(memories: Sequence[Memory], when: float, data: Mapping[str, Any]) -> None:
    """Append the memory readings (GiB) of an event to each of these."""
    for name in MEMORY_FIELDS:
        value = data.get(name)
        if value is None:
            continue
        reading = number(value)
        for memory in memories:
            series = memory.get(name)
            if series is None:
                series = memory[name] = (column(), column())
            series[0].append(when)
            series[1].append(reading)


def shift_memory(memory: Memory, seconds: float) -> None:
    """Shift the times of the memory readings."""
    for name, (times, values) in memory.items():
        memory[name] = (column(t + seconds for t in times), values)


def number(value: Any) -> float:
    """A metric as a float; missing ones are NaN, and ``"nan"`` or ``"inf"`` are parsed."""
    if type(value) is float:  # a million times in a long run
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
