"""Which rows share a bin of limited length: best-fit decreasing over windows of the row order.

Why windows: sorting all rows by length would put like rows side by side for the whole run, and
memory would grow with the data. It must not know about tokens or tensors.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

WINDOW = 4096
"""Rows that are packed together; more fills bins hardly better."""


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of row numbers whose lengths add up to at most ``capacity``; no row is left out.

    ``order`` is cut into windows. Within one, rows are taken from long to short and each goes into
    the fullest bin that still holds it (best-fit decreasing; Johnson 1974: at most 11/9 of the
    fewest bins). A row longer than ``capacity`` gets a bin of its own.
    """
    bins: list[list[int]] = []
    for first in range(0, len(order), WINDOW):
        bins += _pack_window(lengths, order[first : first + WINDOW], capacity)
    return bins


def _pack_window(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left in each bin, and the bin's number; sorted
    for row in sorted(order, key=lambda i: -lengths[i]):  # stable: ties keep the drawn order
        place = bisect_left(room, (lengths[row], -1))
        if place < len(room):
            left, number = room.pop(place)
            bins[number].append(row)
        else:
            left, number = capacity, len(bins)
            bins.append([row])
        insort(room, (left - lengths[row], number))
    return bins
