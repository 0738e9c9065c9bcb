"""Rows by their number, as the data host serves them: any place, bad ones too.

Why: a table of 100,000 rows shows fifty, and one that cannot be read must not hide the others. The
files of a Dataset node are read in place; what other nodes make of rows (a mix), and what has to be
fetched, is prepared as in a run. It must not tokenize.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from studio.errors import StudioError
from studio.formats._drops import Drops
from studio.formats._source import SourceRow
from studio.formats._split import ranks
from studio.formats._window import SourceWindow
from studio.training.data.canonical import to_arrow
from studio.training.data.source_order import SourceOrder
from studio.values import DatasetValue

_FEW = 2000
_AT_LEAST = 64


@dataclass(frozen=True)
class Item:
    """Row ``number`` of the data: the stored row, or why it cannot be read. ``split`` is ``train``,
    ``validation`` or ``left_out``. With ``ends_file`` nothing behind it in its file can be read."""

    number: int
    split: str
    source: str
    line: int
    row: Mapping[str, Any] | None
    error: StudioError | None = None
    ends_file: bool = False


class Rows(Protocol):
    """Rows from 1 to ``count``."""

    count: int

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, both included."""
        ...

    def close(self) -> None:
        """Let go of the files."""
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

    def close(self) -> None:
        """Nothing is held."""


class WindowRows:
    """The rows of a Dataset node, read where they are. ``title`` is the node's name, for errors."""

    def __init__(self, title: str, window: SourceWindow) -> None:
        self._title = title
        self._window = window
        self._sources: dict[Path, str] = {}
        self._drops = Drops(window.settings.drop_rows)
        self.count = window.count()
        self._few = self._sides_of_few() if self.count <= _FEW else None
        self._counted: frozenset[int] | None = None

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, both included."""
        found = self._window.rows(first, min(last, self.count))
        return [self._item(number, row) for number, row in enumerate(found, start=first)]

    def close(self) -> None:
        """Close the files."""
        self._window.close()

    def _item(self, number: int, row: SourceRow) -> Item:
        source = self._source(row.path)
        dropped = self._is_dropped(number, row)
        split = "left_out" if dropped else self._side(number)
        try:
            fault = row.error or self._window.fault_of(row)
            if fault is not None:
                split = split if dropped else "train"  # nothing leaves it out: a step stops there
                raise fault
            canonical = self._canonical(row)
        except StudioError as error:
            named = self._named(error)
            return Item(number, split, source, row.line, None, named, row.ends_file)
        stored = to_arrow({**canonical, "line": row.line, "source": source})
        return Item(number, split, source, row.line, stored)

    def _is_dropped(self, number: int, row: SourceRow) -> bool:
        if not self._drops or row.ends_file:  # nothing passes what ends a file
            return False
        return self._drops.has(number, row.path, row.line)

    def _canonical(self, row: SourceRow) -> Mapping[str, Any]:
        if row.error is not None:
            raise row.error
        return self._window.chosen.convert(row, row.path)

    def _side(self, number: int) -> str:
        if self._few:
            return self._few[number - 1]
        if self._window.settings.split_mode != "count":
            return self._window.split_of(number)
        if self._counted is None:
            self._counted = self._held_out_by_count()
        return "validation" if number in self._counted else "train"

    def _held_out_by_count(self) -> frozenset[int]:
        """The rows that a split by count holds out: of those that are used, the ones of lowest rank
        (``studio.training.data.split``). So many are looked at, and one more that is left to train on."""
        settings = self._window.settings
        wanted = settings.validation_count
        order = np.argsort(ranks(np.arange(self.count), settings.seed), kind="stable") + 1
        used: list[int] = []
        done = 0
        while len(used) <= wanted and done < len(order):
            batch = order[done : done + max(wanted + 1 - len(used), _AT_LEAST)].tolist()
            done += len(batch)
            good = {
                n for n in sorted(batch) if self._is_used(n)
            }  # a file is read from its start on
            used += [n for n in batch if n in good]
        return frozenset(used[: min(wanted, len(used) - 1)] if used else ())

    def _is_used(self, number: int) -> bool:
        (row,) = self._window.rows(number, number)
        try:
            self._canonical(row)
        except StudioError:
            return False
        return not self._is_dropped(number, row)

    def _source(self, path: Path) -> str:
        if path not in self._sources:
            self._sources[path] = str(path.resolve())
        return self._sources[path]

    def _named(self, error: StudioError) -> StudioError:
        named = copy.copy(error)
        if not named.sentence.startswith(self._title):
            named.sentence = f"{self._title}: {named.sentence}"
        return named

    def _sides_of_few(self) -> list[str] | None:
        """The sides of a small set, where chance may put all rows on one of them: then the Dataset
        step moves one (``studio.training.data.split``), and so must we. ``None`` where it does not."""
        settings = self._window.settings
        if settings.split_mode != "fraction" or not settings.validation_fraction:
            return None
        self._few = None
        kept = [i for i in self.rows(1, self.count) if i.row is not None and i.split != "left_out"]
        sides = {i.split for i in kept}
        if len(kept) < 2 or len(sides) > 1:
            return None
        order = np.argsort(
            ranks(np.array([i.number - 1 for i in kept]), settings.seed), kind="stable"
        )
        (common,) = sides
        other = "train" if common == "validation" else "validation"
        found: list[str] = [common] * self.count
        found[kept[int(order[0])].number - 1] = other
        return found
