"""The rows of a prepared data set in the order of the user's file.

Why: the split keeps train and validation rows apart, but a user counts the rows of the file. The
step that made the data has kept the order beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.split.hashing import held_out_by_count
from studio.training.data.arrow import open_rows
from studio.training.data.split import read_order
from studio.values import DatasetValue


@dataclass(frozen=True)
class SourceRow:
    """A canonical row of a prepared data set, its number in the data and its split."""

    number: int
    split: str
    row: Mapping[str, Any]


class SourceOrder:
    """Rows by their number, from 1. Data that was made without a note of its order counts by the
    ``seed`` of its split; without that, the validation rows come after those to train on."""

    def __init__(self, dataset: DatasetValue, seed: int | None = None) -> None:
        train, held_out = dataset.train_rows, dataset.validation_rows
        self.count = train + held_out
        self._splits = {
            name: open_rows(Path(dataset.path) / name)
            for name, rows in (("train", train), ("validation", held_out))
            if rows
        }
        known = read_order(Path(dataset.path), self.count)
        if known is None and seed is not None:
            known = held_out_by_count(self.count, held_out, seed)
        self._held_out = np.arange(self.count) >= train if known is None else known
        self._before = np.cumsum(self._held_out)  # validation rows up to and with each row

    def rows(self, first: int, last: int) -> Iterator[SourceRow]:
        """The rows from number ``first`` to ``last``, both included."""
        for number in range(first, last + 1):
            held_out, before = bool(self._held_out[number - 1]), int(self._before[number - 1])
            split, index = (
                ("validation", before - 1) if held_out else ("train", number - before - 1)
            )
            yield SourceRow(number, split, self._splits[split][index])
