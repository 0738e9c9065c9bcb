"""The rows of a prepared data set in the order of the user's file.

Why: train and validation rows are stored apart, but a user counts the rows of the file. The Dataset
step keeps the order beside them: ``held_out.npy`` has one bit per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.data.split.hashing import held_out_by_count
from studio.training.data.arrow import open_rows
from studio.values import DatasetValue

ORDER = "held_out.npy"


def write_order(folder: Path, held_out: Any) -> None:
    """Keep which rows, in the order of the source, are held out."""
    np.save(folder / ORDER, np.packbits(np.asarray(held_out, dtype=bool)))


def read_order(folder: Path, count: int) -> Any:
    """Which of ``count`` rows are held out, in the order of the source; ``None`` where unknown."""
    try:
        bits = np.unpackbits(np.load(folder / ORDER))
    except (OSError, ValueError):
        return None
    return bits[:count].astype(bool) if len(bits) >= count else None


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
