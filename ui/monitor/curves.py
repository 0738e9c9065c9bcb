"""Which curves a run has: their names, units, colours, dashes, and the numbers behind them.

A ``CurveFeed`` turns one training node's series of a ``RunState`` into arrays, copying only what is
new. No Qt here: drawing is ``plot``'s business, choosing what is drawn is this module's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from studio.runs.state import RunState
from ui.monitor.smoothing import Smoother

Floats = NDArray[np.float64]
FIRST_CAPACITY = 256
Axis = Literal["step", "time"]
Dash = Literal["solid", "dash", "dot", "dashdot"]
Points = tuple[Floats, Floats]
EMPTY: Points = (np.empty(0), np.empty(0))


class Follower:
    """The array of one growing list of numbers; ``None`` in the list becomes NaN.

    Turning a list of a million numbers into an array takes tens of milliseconds, so only what came
    since the last look is copied. A list that was cut or rewritten (a resumed run) is copied afresh.
    """

    def __init__(self) -> None:
        self._store: Floats = np.empty(FIRST_CAPACITY)
        self._count = 0
        self._source: Sequence[float | None] = ()

    def follow(self, source: Sequence[float | None]) -> Floats:
        """The list as an array (a view that the next call may replace)."""
        if not self._continues(source):
            self._count = 0
        fresh = len(source) - self._count
        if fresh:
            self._reserve(len(source))
            self._store[self._count : len(source)] = source[self._count :]
            self._count = len(source)
        self._source = source
        return self._store[: self._count]

    def _continues(self, source: Sequence[float | None]) -> bool:
        if self._count == 0:
            return True
        if source is not self._source or len(source) < self._count:
            return False
        last, known = source[self._count - 1], self._store[self._count - 1]
        return (last is None and bool(np.isnan(known))) or last == known or last != last

    def _reserve(self, count: int) -> None:
        if count <= len(self._store):
            return
        grown = np.empty(max(count, 2 * len(self._store)))
        grown[: self._count] = self._store[: self._count]
        self._store = grown


@dataclass(frozen=True)
class CurveSpec:
    """One curve. ``color`` counts in ``style.SERIES``; ``marker`` is a pyqtgraph symbol or none."""

    key: str
    label: str
    color: int
    dash: Dash = "solid"
    marker: str = ""
    faint: bool = False


@dataclass(frozen=True)
class PlotSpec:
    """One plot. ``axis`` is ``time`` where a curve has no steps."""

    key: str
    title: str
    unit: str
    curves: tuple[CurveSpec, ...]
    axis: Axis = "step"
    from_zero: bool = False


LOSS = PlotSpec(
    "loss",
    "Loss",
    "",
    (
        CurveSpec("loss", "Train", 0, faint=True),
        CurveSpec("loss_smooth", "Train, smoothed", 0),
        CurveSpec("eval_loss", "Validation", 1, "dash", "o"),
    ),
)
SMALL = (
    PlotSpec(
        "learning_rate",
        "Learning rate",
        "",
        (CurveSpec("learning_rate", "Rate", 2),),
        from_zero=True,
    ),
    PlotSpec("grad_norm", "Gradient norm", "", (CurveSpec("grad_norm", "Norm", 3),)),
    PlotSpec(
        "tokens_per_s",
        "Speed",
        "tokens/s",
        (CurveSpec("tokens_per_s", "Speed", 0),),
        from_zero=True,
    ),
)
VRAM = PlotSpec(
    "memory",
    "GPU memory",
    "GiB",
    (
        CurveSpec("vram_allocated_gib", "Allocated", 0),
        CurveSpec("vram_reserved_gib", "Reserved", 1, "dash"),
        CurveSpec("vram_device_gib", "Device", 3, "dot"),
    ),
    "time",
    from_zero=True,
)
RAM = PlotSpec(
    "memory",
    "Memory",
    "GiB",
    (
        CurveSpec("ram_process_gib", "Training", 0),
        CurveSpec("ram_system_gib", "System", 1, "dash"),
    ),
    "time",
    from_zero=True,
)


MEMORY_KEYS = frozenset(c.key for c in (*VRAM.curves, *RAM.curves))


def memory_spec(state: RunState | None) -> PlotSpec:
    """The memory plot that fits the run: VRAM where it was measured, else the computer's memory."""
    measured = state.memory if state else {}
    return VRAM if any(name.startswith("vram_") for name in measured) else RAM


class CurveFeed:
    """The arrays of one run, kept between looks."""

    def __init__(self) -> None:
        self._followers: dict[tuple[str, str], Follower] = {}
        self._smoothers: dict[str, Smoother] = {}
        self.factor = 0.6

    def points(self, state: RunState, node: str, key: str, axis: Axis) -> Points:
        """The points (n,), (n,) of one curve; x is the step, or seconds since the run started.

        Memory is that of the entire run, always over time.
        """
        if key in MEMORY_KEYS:
            return self._memory(state, key)
        series = state.metrics.get(node)
        if series is None:
            return EMPTY
        if key == "loss_smooth":
            x, y = self.points(state, node, "loss", axis)
            smoother = self._smoothers.setdefault(node, Smoother())
            return x, smoother.follow(y, self.factor)
        prefix = "eval_" if key == "eval_loss" else ""
        x = self._array(node, f"{prefix}{axis}", getattr(series, f"{prefix}{axis}"))
        if axis == "time":
            x = x - (state.started or 0.0)
        return _measured(x, self._array(node, key, getattr(series, key)))

    def _memory(self, state: RunState, key: str) -> Points:
        times, values = state.memory.get(key, ((), ()))
        x = self._array("", key + ".time", times) - (state.started or 0.0)
        return _measured(x, self._array("", key, values))

    def _array(self, node: str, key: str, values: Any) -> Floats:
        return self._followers.setdefault((node, key), Follower()).follow(values)


def _measured(x: Floats, y: Floats) -> Points:
    """The points that have a value; both are cut to the shorter one first."""
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]
    gaps = np.isnan(y)
    return (x[~gaps], y[~gaps]) if gaps.any() else (x, y)
