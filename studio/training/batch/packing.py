"""Packing: assigns rows to bins of limited length by best-fit decreasing over windows of the row
order.

Sorting all rows by length would group similar rows for the whole run, and memory would grow with
the data. This module works on lengths only, without tokens or tensors.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

WINDOW = 4096
"""Rows per window; larger windows hardly fill the bins better."""


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of row numbers whose lengths add up to at most ``capacity``; every row is in one bin.

    ``order`` is divided into windows. Within a window, rows are taken from long to short, and each
    goes into the fullest bin that has room for it (best-fit decreasing; Johnson 1974: at most 11/9
    of the minimum number of bins). A row longer than ``capacity`` gets a bin of its own.
    """
    bins: list[list[int]] = []
    for first in range(0, len(order), WINDOW):
        bins += _pack_window(lengths, order[first : first + WINDOW], capacity)
    return bins


def _pack_window(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # the free space of each bin, and its number; sorted
    for row in sorted(order, key=lambda i: -lengths[i]):  # stable: ties keep the shuffled order
        place = bisect_left(room, (lengths[row], -1))
        if place < len(room):
            left, number = room.pop(place)
            bins[number].append(row)
        else:
            left, number = capacity, len(bins)
            bins.append([row])
        insort(room, (left - lengths[row], number))
    return bins
