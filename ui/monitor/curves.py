"""Which curves a run has: their names, units, colours, dashes, and the numbers behind them.

A ``CurveFeed`` turns one training node's series of a ``RunState`` into arrays, copying only what is
new. No Qt here: drawing is ``plot``'s business, choosing what is drawn is this module's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from studio.runs.state import RunState
from ui.monitor.buffers import Floats, Follower
from ui.monitor.smoothing import Smoother

Axis = Literal["step", "time"]
Dash = Literal["solid", "dash", "dot", "dashdot"]
Points = tuple[Floats, Floats]
EMPTY: Points = (np.empty(0), np.empty(0))


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
