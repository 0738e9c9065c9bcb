"""Near-duplicates: MinHash signatures over word triples, found by banding.

Broder (1997) for the signatures, Leskovec, Rajaraman and Ullman (“Mining of Massive Datasets”,
chapter 3) for the banding. Memory is bounded: 256 bytes per row, and at most ``MOST_ROWS`` rows.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASHES, BANDS = 64, 16
SIMILAR = 0.8
MOST_ROWS = 300_000
_FEWEST_WORDS, _MOST_WORDS, _WORDS = 8, 4000, 3
_CHUNK = 4096
# A word, or one character in scripts without spaces.
_WORD = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u0e00-\u9fff\uac00-\ud7af]+"
)
_random = np.random.default_rng(20240607)
_A = _random.integers(1, 2**63, HASHES, dtype=np.uint64) | np.uint64(1)
_B = _random.integers(0, 2**63, HASHES, dtype=np.uint64)
_MIX = _random.integers(1, 2**63, max(_WORDS, HASHES // BANDS), dtype=np.uint64) | np.uint64(1)
_SHIFT = np.uint64(32)

Signature = NDArray[np.uint32]


@dataclass(frozen=True)
class Pair:
    """Two rows by their numbers, the earlier one first, and their estimated similarity: the share
    of word triples that they have in common.
    """

    first: int
    second: int
    similarity: float


def signature(text: str) -> Signature | None:
    """The text's signature; ``None`` when it is too short to compare."""
    words = _WORD.findall(text.lower()[: _MOST_WORDS * 16])[:_MOST_WORDS]
    if len(words) < _FEWEST_WORDS:
        return None
    hashes = np.fromiter((zlib.crc32(w.encode("utf-8", "replace")) for w in words), np.uint64)
    with np.errstate(over="ignore"):
        shingles = sum(
            (hashes[i : len(hashes) - _WORDS + 1 + i] * _MIX[i] for i in range(_WORDS)),
            start=np.zeros(len(hashes) - _WORDS + 1, np.uint64),
        )
        mixed = np.unique(shingles)[:, None] * _A + _B
    least: Signature = (mixed >> _SHIFT).min(axis=0).astype(np.uint32)
    return least


class NearDuplicates:
    """Collects signatures; ``pairs`` finds similar ones."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._full: list[Signature] = []
        self._chunk = np.empty((_CHUNK, HASHES), np.uint32)

    @property
    def is_full(self) -> bool:
        """Whether the maximum number of rows is reached."""
        return len(self._numbers) >= MOST_ROWS

    def add(self, number: int, text: str) -> None:
        """Add a row; texts that are too short, and rows beyond the maximum, are ignored."""
        if self.is_full or (found := signature(text)) is None:
            return
        place = len(self._numbers) % _CHUNK
        self._chunk[place] = found
        self._numbers.append(number)
        if place == _CHUNK - 1:
            self._full.append(self._chunk)
            self._chunk = np.empty((_CHUNK, HASHES), np.uint32)

    def pairs(self) -> Iterator[list[Pair]]:
        """The pairs found in each band of the signatures; a row is the ``second`` of at most one pair."""
        rest = len(self._numbers) - len(self._full) * _CHUNK
        signatures = np.concatenate([*self._full, self._chunk[:rest]])
        seen: set[int] = set()
        width = HASHES // BANDS
        for band in range(BANDS):
            found = []
            for a, b, similarity in _alike(signatures, band * width, width):
                if b not in seen:
                    seen.add(b)
                    found.append(Pair(self._numbers[a], self._numbers[b], similarity))
            yield found


def _alike(signatures: Signature, start: int, width: int) -> list[tuple[int, int, float]]:
    """Rows (as indices, in order) that are equal in a band and whose complete signatures are similar."""
    with np.errstate(over="ignore"):
        keys = (signatures[:, start : start + width].astype(np.uint64) * _MIX[:width]).sum(axis=1)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    first, second = order[same], order[same + 1]
    agreed = (signatures[first] == signatures[second]).mean(axis=1)
    similar = np.flatnonzero(agreed >= SIMILAR)
    return [(int(first[i]), int(second[i]), float(agreed[i])) for i in similar]
