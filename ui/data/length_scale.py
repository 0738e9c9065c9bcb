"""Conversion between a number of tokens and its position on the histogram's axis.

Bars are equally wide whatever their bins hold, so the scale is linear within a bin only. Numbers;
no widgets.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

_LEAST_PX = 3.0


@dataclass(frozen=True)
class Scale:
    """``edges`` are those of the bins, in tokens; the axis goes from ``left`` over ``width`` pixels."""

    edges: tuple[int, ...]
    left: float
    width: float

    @property
    def _bin_px(self) -> float:
        return self.width / max(1, len(self.edges) - 1)

    def x_of(self, length: int) -> float:
        """The position of a max length: after the rows with that many tokens."""
        place = min(max(length + 1, self.edges[0]), self.edges[-1])
        index = min(bisect_right(self.edges, place), len(self.edges) - 1) - 1
        first, after = self.edges[index], self.edges[index + 1]
        return self.left + (index + (place - first) / (after - first)) * self._bin_px

    def length_at(self, x: float, grain: int) -> int:
        """The max length nearest to ``x``, as a round number."""
        at = min(max((x - self.left) / self._bin_px, 0.0), len(self.edges) - 1.0)
        index = min(int(at), len(self.edges) - 2)
        first, after = self.edges[index], self.edges[index + 1]
        step = self.step_at(first, grain)
        return max(step, round((first + (at - index) * (after - first) - 1) / step) * step)

    def step_at(self, length: int, grain: int) -> int:
        """The step of the line at that place: a visible power of two, at least ``grain``."""
        index = min(max(bisect_right(self.edges, length) - 1, 0), len(self.edges) - 2)
        tokens_per_px = (self.edges[index + 1] - self.edges[index]) / self._bin_px
        step = grain
        while step < _LEAST_PX * tokens_per_px:
            step *= 2
        return step
