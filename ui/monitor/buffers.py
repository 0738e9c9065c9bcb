"""Arrays that follow growing lists, so that a long run is not converted again at every update.

A ``RunState`` keeps plain lists. Turning a million numbers into an array takes tens of
milliseconds, so each curve keeps its array and copies only what came since the last look. A list
that was cut or rewritten (a resumed run) is copied afresh. No Qt here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST_CAPACITY = 256


class Follower:
    """The array of one list of numbers; ``None`` in the list becomes NaN."""

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
            new = source[self._count :]
            self._store[self._count : len(source)] = [np.nan if v is None else v for v in new]
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
