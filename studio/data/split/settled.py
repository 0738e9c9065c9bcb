"""Which rows are kept and which are held out, where that depends on all of them.

Duplicates, a split by number, and a side that would be empty can be judged only when every row is
known. The Dataset step and everything that shows rows ask here, so that both say the same. What a row's
own place or column says of its side is in ``studio.data.split.by_row``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from studio.data.split.hashing import ranks
from studio.node_settings.dataset import DatasetSettings

_AT_LEAST = 64


def settled(
    settings: DatasetSettings, ordinals: Any, held_out: Any, hashes: Any
) -> tuple[Any, Any]:
    """(kept, held out) as boolean arrays over the rows that are used, in their order.

    ``ordinals`` are their places among all rows, from 0, ``held_out`` what each says of itself, and
    ``hashes`` their contents, empty where duplicates stay.
    """
    kept = np.ones(len(ordinals), dtype=bool)
    if settings.deduplicate:
        kept[:] = False
        kept[np.unique(hashes, return_index=True)[1]] = True  # the first one of each
    if settings.split_mode == "count":
        return kept, _lowest(ordinals, kept, settings.validation_count, settings.seed)
    if settings.split_mode == "fraction" and settings.validation_fraction > 0:
        return kept, _both_sides(ordinals, kept, held_out, settings.seed)
    return kept, held_out


def lowest(
    count: int, wanted: int, seed: int, used: Callable[[list[int]], set[int]]
) -> frozenset[int]:
    """The rows, from 0, that a split by number holds out: of those that are used, the ``wanted`` ones
    of lowest rank, at least one being left to train on. Of ``count`` rows only so many are asked
    about, in ascending handfuls, as are needed."""
    order = np.argsort(ranks(np.arange(count), seed), kind="stable")
    found: list[int] = []
    done = 0
    while len(found) <= wanted and done < count:
        batch = order[done : done + max(wanted + 1 - len(found), _AT_LEAST)].tolist()
        done += len(batch)
        good = used(sorted(batch))
        found += [n for n in batch if n in good]
    return frozenset(found[: max(0, min(wanted, len(found) - 1))])


def _lowest(ordinals: Any, kept: Any, wanted: int, seed: int) -> Any:
    used = {int(n) for n in ordinals[kept]}
    drawn = lowest(max(used, default=-1) + 1, wanted, seed, used.intersection)
    return np.isin(ordinals, list(drawn)) & kept


def _both_sides(ordinals: Any, kept: Any, held_out: Any, seed: int) -> Any:
    """Rows that were left out can empty a side; then the row of lowest rank goes there."""
    sides = held_out[kept]
    if len(sides) < 2 or sides.any() != sides.all():
        return held_out
    first = _lowest(ordinals, kept, 1, seed)
    return first if not sides.any() else ~first
