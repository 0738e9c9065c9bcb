"""Series of one node's metrics over a run: plain lists that only grow, except after a resume.

Lists of one kind have equal lengths; a metric that a step did not report is NaN. Times are Unix
seconds. Plots convert the lists to arrays as they need them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEMORY_FIELDS = (
    "ram_process_gib",
    "ram_system_gib",
    "vram_allocated_gib",
    "vram_reserved_gib",
    "vram_device_gib",
)
_TRAIN = ("step", "time", "loss", "learning_rate", "grad_norm", "tokens_per_s", "epoch")
_EVAL = ("eval_step", "eval_time", "eval_loss")
Memory = dict[str, tuple[list[float], list[float]]]


@dataclass
class Series:
    """Metrics by optimizer step; ``steps`` is the total number of steps, 0 if unknown."""

    step: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    eval_step: list[float] = field(default_factory=list)
    eval_time: list[float] = field(default_factory=list)
    eval_loss: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)
    steps: int = 0

    def add(self, when: float, data: Mapping[str, Any]) -> None:
        """One ``Metric``. A repeated step (a resume without an event) replaces the later points."""
        self.steps = int(data.get("steps") or self.steps)
        if "loss" in data:
            self._add(_TRAIN, when, data)
        if "eval_loss" in data:
            self._add(_EVAL, when, data)

    def _add(self, names: tuple[str, ...], when: float, data: Mapping[str, Any]) -> None:
        steps: list[float] = getattr(self, names[0])
        step = number(data.get("step"))
        if not math.isfinite(step):  # a damaged event
            return
        if steps and step <= steps[-1]:
            self._cut(names, bisect_left(steps, step))
        steps.append(step)
        getattr(self, names[1]).append(when)
        for name in names[2:]:
            getattr(self, name).append(number(data.get(name)))

    def cut_after(self, step: float) -> None:
        """Drop the points after a step: they are not part of the resumed run."""
        self._cut(_TRAIN, bisect_right(self.step, step))
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
        self.time = [t + seconds for t in self.time]
        self.eval_time = [t + seconds for t in self.eval_time]
        shift_memory(self.memory, seconds)


def add_memory(memory: Memory, when: float, data: Mapping[str, Any]) -> None:
    """Append the memory readings (GiB) of an event."""
    for name in MEMORY_FIELDS:
        value = data.get(name)
        if value is not None:
            times, values = memory.setdefault(name, ([], []))
            times.append(when)
            values.append(number(value))


def shift_memory(memory: Memory, seconds: float) -> None:
    """Shift the times of the memory readings."""
    for name, (times, values) in memory.items():
        memory[name] = ([t + seconds for t in times], values)


def number(value: Any) -> float:
    """A metric as a float; missing ones are NaN, and ``"nan"`` or ``"inf"`` are parsed."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
