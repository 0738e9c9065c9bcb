"""Which rows have been checked, and their findings, in eight bytes per row.

Navigating from one flagged row to the next checks no row twice.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from studio.data.split.sides import MOST_COMPARED
from studio.preview.report import KINDS

_BITS = {code: np.uint64(1 << place) for place, code in enumerate(KINDS)}
_LOOKED_AT = np.uint64(1 << 63)


class RowIndex:
    """The findings of rows by number, from 1 to ``count``."""

    def __init__(self, count: int) -> None:
        self._marks = np.zeros(count, dtype=np.uint64)
        self._first: dict[int, int] = {}

    def put(self, number: int, codes: Iterable[str]) -> None:
        """Record the findings of a row, which counts as checked from now on."""
        found = _LOOKED_AT
        for code in codes:
            found |= _BITS[code]
        self._marks[number - 1] |= found

    def says_again(self, number: int, content: int) -> bool:
        """Whether an earlier checked row has the same content (a hash)."""
        first = self._first.get(content)
        if first is None and len(self._first) >= MOST_COMPARED:
            return False
        if first is None or number < first:
            self._first[content] = number
        return first is not None and first < number

    def of(self, number: int) -> tuple[str, ...] | None:
        """The findings of a row; ``None`` if it has not been checked."""
        marks = self._marks[number - 1]
        if not marks & _LOOKED_AT:
            return None
        return tuple(code for code, bit in _BITS.items() if marks & bit)

    def next(self, after: int, codes: Iterable[str]) -> tuple[int, bool]:
        """The first row after ``after`` that has one of these codes (``True``) or has not been
        checked (``False``); row 0 if there is neither.
        """
        wanted = np.uint64(0)
        for code in codes:
            wanted |= _BITS.get(code, np.uint64(0))
        rest = self._marks[max(0, after) :]
        hits = np.flatnonzero(((rest & wanted) != 0) | ((rest & _LOOKED_AT) == 0))
        if not len(hits):
            return 0, False
        found = int(hits[0])
        return max(0, after) + found + 1, bool(rest[found] & wanted)
