"""Rows by their number, as the data host serves them: any place, bad ones too.

Why: a table of 100,000 rows shows fifty, and one that cannot be read must not hide the others. A
single Dataset node's files are read in place; what other nodes make of rows (a mix) is prepared as
in a run. It must not tokenize.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from studio.errors import StudioError
from studio.training.source_order import SourceOrder
from studio.values import DatasetValue


@dataclass(frozen=True)
class Item:
    """Row ``number`` of the data: the stored row, or why it cannot be read."""

    number: int
    split: str
    source: str
    line: int
    row: Mapping[str, Any] | None
    error: StudioError | None = None


class Rows(Protocol):
    """Rows from 1 to ``count``."""

    count: int

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, both included."""
        ...


class PreparedRows:
    """The rows of a prepared data set, in the order of the user's file where that is known."""

    def __init__(self, dataset: DatasetValue, seed: int | None) -> None:
        self._order = SourceOrder(dataset, seed)
        self.count = self._order.count

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, both included."""
        found = self._order.rows(first, min(last, self.count))
        return [
            Item(s.number, s.split, str(s.row["source"]), int(s.row["line"]), s.row) for s in found
        ]
