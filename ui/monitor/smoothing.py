"""Exponential moving average of a curve, as a training tool's smoothing slider means it.

Weighted as TensorBoard does it: each point keeps ``factor`` of the average so far, and the start is
corrected for the missing past. Computed in blocks with numpy, so that a million points take
milliseconds. No Qt here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 64
MAX_FACTOR = 0.99


def smooth(values: Floats, factor: float) -> Floats:
    """The moving average of ``values`` (n,), same shape; NaN is skipped."""
    factor = min(max(float(factor), 0.0), MAX_FACTOR)
    if factor == 0.0 or len(values) < 2:
        return values
    known = np.isfinite(values)
    if known.all():
        return _average(values, factor)
    result = np.full(len(values), np.nan)
    result[known] = _average(values[known], factor)
    return result


def _average(values: Floats, factor: float) -> Floats:
    """The average of finite values: m_t = factor * m_(t-1) + (1 - factor) * x_t, bias-corrected."""
    count = len(values)
    if count == 0:
        return values
    blocks = -(-count // BLOCK)
    padded = np.zeros(blocks * BLOCK)
    padded[:count] = values
    powers = factor ** np.arange(BLOCK)
    steps = np.arange(BLOCK)
    kernel = np.where(
        steps[:, None] >= steps[None, :], factor ** np.abs(steps[:, None] - steps[None, :]), 0.0
    )
    inner = (1.0 - factor) * (padded.reshape(blocks, BLOCK) @ kernel.T)  # (blocks, BLOCK)
    result = (inner + _carries(inner[:, -1], factor)[:, None] * (powers * factor)).ravel()[:count]
    weight = 1.0 - factor ** np.arange(1, count + 1)
    return result / weight


def _carries(lasts: Floats, factor: float) -> Floats:
    """The average with which each block begins, from the blocks' own last values."""
    fade = factor**BLOCK
    carries = np.empty(len(lasts))
    carry = 0.0
    for index, last in enumerate(lasts.tolist()):
        carries[index] = carry
        carry = carry * fade + last
    return carries
