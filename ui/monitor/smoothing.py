"""Exponential moving average of a curve for the smoothing slider.

Weighted as TensorBoard does it: each point keeps ``factor`` of the average so far, and the start is
corrected for the missing past. Computed in blocks with numpy, and only for what is new, so that a
million points cost no more than the last few. No Qt here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 64
MAX_FACTOR = 0.99
EARLY = 4000
"""From here on ``MAX_FACTOR ** n`` is below the precision of doubles beside 1."""


def smooth(values: Floats, factor: float) -> Floats:
    """The moving average of ``values`` (n,), same shape; NaN is skipped."""
    known = np.isfinite(values)
    if known.all():
        return Smoother().follow(values, factor)
    result = np.full(len(values), np.nan)
    result[known] = Smoother().follow(values[known], factor)
    return result


class Smoother:
    """The moving average of one growing series of finite values."""

    def __init__(self) -> None:
        self._factor = -1.0
        self._store: Floats = np.empty(0)
        self._count = 0
        self._last = 0.0
        self._carry = 0.0

    def follow(self, values: Floats, factor: float) -> Floats:
        """The average of ``values``; only points after those of the last call are computed. Factor
        0 changes nothing."""
        factor = min(max(float(factor), 0.0), MAX_FACTOR)
        if factor == 0.0:
            return values
        if factor != self._factor or not self._continues(values):
            self._factor, self._count, self._carry = factor, 0, 0.0
        if len(values) > self._count:
            self._append(values)
        return self._store[: self._count]

    def _continues(self, values: Floats) -> bool:
        if self._count == 0:
            return True
        return len(values) >= self._count and values[self._count - 1] == self._last

    def _append(self, values: Floats) -> None:
        if len(values) > len(self._store):
            grown = np.empty(2 * len(values))
            grown[: self._count] = self._store[: self._count]
            self._store = grown
        raw = _average(values[self._count :], self._factor, self._carry)
        ages = np.arange(self._count + 1, min(len(values), EARLY) + 1)  # later ones have weight 1
        self._store[self._count : len(values)] = raw
        self._store[self._count : self._count + len(ages)] /= 1.0 - self._factor**ages
        self._count, self._last, self._carry = len(values), float(values[-1]), float(raw[-1])


def _average(values: Floats, factor: float, carry: float) -> Floats:
    """m_t = factor * m_(t-1) + (1 - factor) * x_t, beginning with ``carry`` (n,) -> (n,)."""
    count = len(values)
    blocks = -(-count // BLOCK)
    padded = np.zeros(blocks * BLOCK)
    padded[:count] = values
    steps = np.arange(BLOCK)
    ages = steps[:, None] - steps[None, :]
    kernel = np.where(ages >= 0, factor ** np.abs(ages), 0.0)
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        inner = (1.0 - factor) * (padded.reshape(blocks, BLOCK) @ kernel.T)  # (blocks, BLOCK)
    carries = _carries(inner[:, -1], factor**BLOCK, carry)
    return (inner + carries[:, None] * factor ** (steps + 1)).ravel()[:count]


def _carries(lasts: Floats, fade: float, carry: float) -> Floats:
    """The average with which each block begins, from the blocks' own last values."""
    carries = np.empty(len(lasts))
    for index, last in enumerate(lasts.tolist()):
        carries[index] = carry
        carry = carry * fade + last
    return carries
