"""Rows by number for the data host, including rows that cannot be read.

A table of 100,000 rows shows fifty at a time, and a row that cannot be read must not hide the
others. Files of a Dataset node are read in place. The output of other nodes, such as a mix, and
data that must be fetched are prepared as in a run. Nothing is tokenized here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from studio.data.canonical import to_arrow
from studio.data.columns import without_split_names
from studio.data.drops import Drops
from studio.data.reading.source import SourceRow
from studio.data.split.sides import SidesByNumber
from studio.data.window import SourceWindow
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.training.data.source_order import SourceOrder
from studio.values import DatasetValue


@dataclass(frozen=True)
class Item:
    """Row ``number`` of the data: the stored row, or the reason why it cannot be read.

    ``split`` is ``train``, ``validation`` or ``left_out``. ``unused`` names the row's columns and
    keys with content that the format does not use. With ``ends_file`` the rest of the file
    cannot be read.
    """

    number: int
    split: str
    source: str
    line: int
    row: Mapping[str, Any] | None
    unused: tuple[str, ...] = ()
    error: StudioError | None = None
    ends_file: bool = False


class Rows(Protocol):
    """Rows with numbers from 1 to ``count``; ``notes`` say which files hold none of them, and what
    the format has found in all rows.

    ``settings`` are those of the Dataset node that still exclude and move rows, or ``None`` if that
    has been done.
    """

    count: int
    settings: DatasetSettings | None
    notes: tuple[str, ...]

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, inclusive."""
        ...

    def has_changed(self) -> bool:
        """Whether a file has changed since it was first read."""
        ...

    def release(self) -> None:
        """Close the files until rows are read again."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class PreparedRows:
    """The rows of a prepared data set, in the order of the user's file if that order is stored."""

    notes: tuple[str, ...] = ()
    settings: DatasetSettings | None = None

    def __init__(self, dataset: DatasetValue, seed: int | None) -> None:
        self._order = SourceOrder(dataset, seed)
        self.count = self._order.count

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, inclusive."""
        found = self._order.rows(first, min(last, self.count))
        return [
            Item(s.number, s.split, str(s.row["source"]), int(s.row["line"]), s.row) for s in found
        ]

    def has_changed(self) -> bool:
        """Never: results of steps are not changed."""
        return False

    def release(self) -> None:
        """Unmap the files until rows are read again: their run may be deleted meanwhile."""
        self._order.release()

    def close(self) -> None:
        """Unmap the files."""
        self._order.release()


class WindowRows:
    """The rows of a Dataset node, read in place.

    ``title`` is the node's title, for errors. ``tick`` is called with the number of rows done while
    all rows are scanned, and may raise.
    """

    def __init__(
        self,
        title: str,
        window: SourceWindow,
        tick: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._title = title
        self._window = window
        self._sources: dict[Path, str] = {}
        self._drops = Drops(window.settings.drop_rows)
        self.count = window.count()
        self.notes = tuple(window.remarks(numbers=True))
        self.settings: DatasetSettings | None = window.settings
        self._sides = SidesByNumber(window, self._used_row, tick)

    def rows(self, first: int, last: int) -> list[Item]:
        """The rows from ``first`` to ``last``, inclusive."""
        found = self._window.rows(first, min(last, self.count))
        return [self._item(number, row) for number, row in enumerate(found, start=first)]

    def has_changed(self) -> bool:
        """Whether a file has changed since it was first read."""
        return self._window.has_changed()

    def release(self) -> None:
        """Close the files until rows are read again."""
        self._window.release()

    def close(self) -> None:
        """Close the files."""
        self._window.close()

    def _item(self, number: int, row: SourceRow) -> Item:
        source = self._source(row.path)
        dropped = self._is_dropped(number, row)
        split = "left_out" if dropped else self._sides.side(number)
        try:
            fault = row.error or self._sides.fault(row)
            if fault is not None:
                split = (
                    split if dropped else "train"
                )  # nothing excludes it: the step ends with an error there
                raise fault
            canonical, unused = self._canonical(row)
        except StudioError as error:
            named = self._named(error)
            return Item(number, split, source, row.line, None, (), named, row.ends_file)
        stored = to_arrow({**canonical, "line": row.line, "source": source})
        unused = without_split_names(unused) if split == "validation" else unused
        return Item(number, split, source, row.line, stored, unused)

    def _is_dropped(self, number: int, row: SourceRow) -> bool:
        if not self._drops or row.ends_file:  # an unreadable rest of a file cannot be excluded
            return False
        return self._drops.has(number, row.path, row.line)

    def _canonical(self, row: SourceRow) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        if row.error is not None:
            raise row.error
        return self._window.chosen.read(row, row.path)

    def _used_row(self, ordinal: int, row: SourceRow) -> Mapping[str, Any] | None:
        """The canonical row if the row is used."""
        try:
            canonical, _ = self._canonical(row)
        except StudioError:
            return None
        return None if self._is_dropped(ordinal + 1, row) else canonical

    def _source(self, path: Path) -> str:
        if path not in self._sources:
            self._sources[path] = str(path.resolve())
        return self._sources[path]

    def _named(self, error: StudioError) -> StudioError:
        named = copy.copy(error)
        named.put_title(self._title)
        return named
