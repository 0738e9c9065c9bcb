"""Hashes that determine which rows are held out: functions of the seed and a row's position only.

Appending rows to a file does not move other rows between the splits. ``ordinal`` counts rows (or
groups) from 0 in the order in which they first appear.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MILLION = 1_000_000  # shares are computed in millionths


def held_out_by_share(ordinals: Any, fraction: float, seed: int) -> Any:
    """Whether each of these rows is held out, as a boolean array.

    The rows are divided into runs of 1/``fraction``, and the seed selects one row of each run. So
    every prefix of the data has its share within one row. The first run selects one of its first
    two rows, so that both splits have a row as soon as there are two.
    """
    ordinals = np.asarray(ordinals, dtype=np.int64)
    part = round(min(fraction, 1.0) * _MILLION)
    part = max(part, 1) if fraction > 0 else 0
    if part in (0, _MILLION):
        return np.full(ordinals.shape, part == _MILLION)
    rare = min(part, _MILLION - part)
    run = ordinals * rare // _MILLION
    first, end = -(-run * _MILLION // rare), -(-(run + 1) * _MILLION // rare)
    room = np.where(run == 0, np.minimum(end - first, 2), end - first)
    drawn = first + (ranks(run, seed) % room.astype(np.uint64)).astype(np.int64)
    return (drawn == ordinals) == (rare == part)


def held_out_by_count(count: int, held_out: int, seed: int) -> Any:
    """The ``held_out`` rows of lowest rank among ``count``.

    Appended rows can replace a held-out row; a training row remains one.
    """
    mask = np.zeros(count, dtype=bool)
    mask[np.argsort(ranks(np.arange(count), seed), kind="stable")[:held_out]] = True
    return mask


def ranks(ordinals: Any, seed: int) -> Any:
    """A well mixed 64-bit number per ordinal: the finalizer of SplitMix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = np.asarray(ordinals).astype(np.uint64) + np.uint64(seed) * np.uint64(0x632BE59BD9B4E019)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
