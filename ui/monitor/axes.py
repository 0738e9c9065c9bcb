"""Axes of the plots: integer steps, time as 3 min 07 s, and short numbers.

Why: pyqtgraph's own axes print steps as 12.5 and seconds as k. pyqtgraph still draws them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyqtgraph as pg
from PySide6.QtGui import QFontMetricsF

from studio.system.number_text import short_duration

_S, _MIN, _H = (1, 2, 5, 10, 15, 30), (60, 120, 300, 600, 900, 1800), (3600, 7200, 14_400, 43_200)
TIME_STEPS_S = (*_S, *_MIN, *_H, 86_400, 172_800, 345_600, 864_000)
TICKS_AIMED_AT = 6
LEAST_TICKS = 3
LOG_TICK_PX = 18  # room for the height of a label
LOG_LIMIT = 300.0  # of the exponents of floating-point numbers
TIME_GAP_PX = 12


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
            aimed = (maxVal - minVal) / TICKS_AIMED_AT
            px_per_s = size / max(maxVal - minVal, 1e-9)
            steps = (s for s in TIME_STEPS_S if s >= aimed and self._has_room(s, maxVal, px_per_s))
            return [(next(steps, TIME_STEPS_S[-1]), 0)]
        spacing = super().tickSpacing(minVal, maxVal, size)
        return [(s, offset) for s, offset in spacing if s >= 1] or [(1, 0)]

    def _has_room(self, step: int, largest: float, px_per_s: float) -> bool:
        """Whether the longest of the last labels fits between two ticks."""
        metrics = QFontMetricsF(self.style["tickFont"] or self.font())
        last = largest // step * step
        widest = max(metrics.horizontalAdvance(_time(last - n * step)) for n in range(2))
        return step * px_per_s >= widest + TIME_GAP_PX

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
        if self.logMode:
            return [(1.0, [math.log10(tick) for tick in log_ticks(minVal, maxVal, size)])]
        levels: list[Any] = super().tickValues(minVal, maxVal, size)
        self._finest = float(levels[min(1, len(levels) - 1)][0]) if levels else 1.0
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
        return [f"{10.0**v:.6g}" for v in values]


def log_ticks(low: float, high: float, size: float) -> list[float]:
    """The ticks of a logarithmic axis from 10^``low`` to 10^``high`` over ``size`` pixels: powers of
    ten; if those are few, multiples of them; in a narrow range, equal steps. Why: pyqtgraph labels
    powers of ten only, of which a range of losses often has one."""
    low, high = max(low, -LOG_LIMIT), min(high, LOG_LIMIT)
    if low > high:  # moved to where floating-point numbers end
        return []
    powers = range(math.floor(low), math.ceil(high) + 1)
    per_px = (high - low) / max(1.0, size)

    def fitting(ticks: Iterable[float]) -> list[float]:
        kept: list[float] = []
        for tick in ticks:
            inside = low <= math.log10(tick) <= high
            if inside and (not kept or math.log10(tick / kept[-1]) >= LOG_TICK_PX * per_px):
                kept.append(tick)
        return kept

    for multiples in ((1,), (1, 2, 5)):
        found = fitting(float(f"{m}e{power}") for power in powers for m in multiples)
        if len(found) >= LEAST_TICKS:
            return found
    first, last = 10.0**low, 10.0**high
    step = 10.0 ** math.floor(math.log10((last - first) / LEAST_TICKS or 1.0))
    step = next((s for s in (5 * step, 2 * step) if (last - first) / s >= LEAST_TICKS), step)
    return fitting(
        n * step for n in range(math.ceil(first / step), math.floor(last / step) + 1) if n
    )


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
