"""Axes of the plots: integer steps, time as 3 min 07 s, and short numbers.

Why: pyqtgraph's own axes print steps as 12.5 and seconds as k. pyqtgraph still draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg

from studio.system.number_text import short_duration

TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
TICKS_AIMED_AT = 6
TIME_TICK_PX = 88  # room for 12 min 30 s and a gap


class XAxis(pg.AxisItem):
    """The lower axis: optimizer steps, or time since the run started."""

    def __init__(self) -> None:
        super().__init__(orientation="bottom")
        self.time = False
        self.enableAutoSIPrefix(False)

    def set_time(self, on: bool) -> None:
        """Show durations (True) or steps (False)."""
        self.time = on
        self.picture = None
        self.update()

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        """Distances between ticks: never below one step, and round times."""
        if self.time:
            ticks = min(TICKS_AIMED_AT, max(1.0, size / TIME_TICK_PX))
            aimed = (maxVal - minVal) / ticks
            return [(next((s for s in TIME_STEPS_S if s >= aimed), TIME_STEPS_S[-1]), 0)]
        spacing = super().tickSpacing(minVal, maxVal, size)
        return [(s, offset) for s, offset in spacing if s >= 1] or [(1, 0)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """The words at the ticks."""
        del scale
        if self.time:
            return [_time(v) for v in values]
        return [f"{v:.0f}" if abs(v) < 1e5 else f"{v / 1000:g}k" for v in values]


class YAxis(pg.AxisItem):
    """The left axis: plain numbers, also when it is logarithmic."""

    def __init__(self) -> None:
        super().__init__(orientation="left")
        self.enableAutoSIPrefix(False)
        self._finest = 1.0
        self._largest = 1.0

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[Any]:
        """The ticks; also notes how fine they are, so that all get the same digits."""
        levels: list[Any] = super().tickValues(minVal, maxVal, size)
        spacings = [level[0] for level in levels if level[0] is not None]  # log levels have none
        self._finest = float(spacings[min(1, len(spacings) - 1)]) if spacings else 1.0
        self._largest = max(abs(minVal), abs(maxVal))
        return levels

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """The labels of the ticks, with the digits that the spacing needs."""
        if self.logMode:
            return self.logTickStrings(values, scale, spacing)
        return [short(v, self._finest, self._largest) for v in values]

    def logTickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """Powers of ten as numbers, not as exponents."""
        del scale, spacing
        return [f"{10.0**v:.3g}" for v in values]


def short(value: float, spacing: float, largest: float) -> str:
    """A tick's number: as many digits as the spacing needs, 2e-4 where all are small."""
    if abs(value) < spacing * 1e-6:
        return "0"
    if largest < 1e-2:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    if largest >= 1e4:
        return f"{value / 1000:g}k"
    return f"{value:.{max(0, -math.floor(math.log10(spacing) + 1e-9))}f}"


def _time(seconds: float) -> str:
    return f"{'-' if seconds < -0.5 else ''}{short_duration(round(abs(seconds)))}"
