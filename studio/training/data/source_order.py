"""The rows of a prepared data set in the order of the user's file.

Train and validation rows are stored separately, but users count the rows of their file. The Dataset
step stores the order beside them: ``held_out.npy`` has one bit per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from studio.data.split.hashing import held_out_by_count
from studio.training.data.arrow import open_rows
from studio.values import DatasetValue

ORDER = "held_out.npy"


def write_order(folder: Path, held_out: Any) -> None:
    """Store which rows are held out, in the order of the source."""
    np.save(folder / ORDER, np.packbits(np.asarray(held_out, dtype=bool)))


def read_order(folder: Path, count: int) -> Any:
    """Which of ``count`` rows are held out, in the order of the source; ``None`` if unknown."""
    try:
        bits = np.unpackbits(np.load(folder / ORDER))
    except (OSError, ValueError):
        return None
    return bits[:count].astype(bool) if len(bits) >= count else None


@dataclass(frozen=True)
class SourceRow:
    """A canonical row of a prepared data set, with its number and its split."""

    number: int
    split: str
    row: Mapping[str, Any]


class SourceOrder:
    """Rows by number, from 1.

    For data without a stored order, the order follows from the ``seed`` of the split. Without a
    seed the validation rows come after the training rows.
    """

    def __init__(self, dataset: DatasetValue, seed: int | None = None) -> None:
        train, held_out = dataset.train_rows, dataset.validation_rows
        self.count = train + held_out
        self._folder = Path(dataset.path)
        self._splits: dict[str, Dataset] = {}
        known = read_order(Path(dataset.path), self.count)
        if known is None and seed is not None:
            known = held_out_by_count(self.count, held_out, seed)
        self._held_out = np.arange(self.count) >= train if known is None else known
        self._before = np.cumsum(self._held_out)  # validation rows up to and including each row

    def rows(self, first: int, last: int) -> Iterator[SourceRow]:
        """The rows from ``first`` to ``last``, inclusive."""
        for number in range(first, last + 1):
            held_out, before = bool(self._held_out[number - 1]), int(self._before[number - 1])
            split, index = (
                ("validation", before - 1) if held_out else ("train", number - before - 1)
            )
            yield SourceRow(number, split, self._split(split)[index])

    def release(self) -> None:
        """Unmap the files until rows are read again."""
        self._splits.clear()

    def _split(self, name: str) -> Dataset:
        if name not in self._splits:
            self._splits[name] = open_rows(self._folder / name)
        return self._splits[name]
