"""The columns of a table, and what spreadsheets and data frames add to them.

A column without a name that counts the rows, and columns and records without a value, are ignored.
A value that has no column name is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from studio.data.reading.source import bad_file
from studio.errors import StudioError

JUDGED = 20  # records that decide what a column without a name is
Record = Sequence[Any]
_UNIQUE = (
    "Give each column a unique name in the first line, and remove lines above it, such as a title."
)


@dataclass(frozen=True)
class Table:
    """The names of a table's columns.

    ``header`` has an empty name for each column that is left out: those in ``index`` count the
    rows, the others are empty.
    """

    header: tuple[str, ...]
    index: frozenset[int] = frozenset()

    @cached_property
    def complete(self) -> bool:
        """Whether every column is read."""
        return "" not in self.header

    def holds_nothing(self, record: Record) -> bool:
        """Whether a record has no value in the columns that are read."""
        if self.complete or len(record) > len(self.header):
            return is_blank(record)
        return is_blank([v for v, name in zip(record, self.header, strict=False) if name])

    def values(self, record: Record, path: Path, line: int) -> dict[str, Any] | StudioError:
        """The record by column, or why it is not a row of the table."""
        if len(record) != len(self.header):
            record = _fitted(record, self)
        error = _width_error(record, self.header, path, line)
        if error is None and not self.complete:
            error = _unnamed_error(record, self, path, line)
        if error is not None:
            return error
        data = dict(zip(self.header, record, strict=True))
        data.pop("", None)
        return data

    def notes(self, path: Path) -> Iterator[str]:
        """Sentences about the columns that are left out."""
        if self.index:
            one = len(self.index) == 1
            which = "the first column" if one else f"the first {len(self.index)} columns"
            yield (
                f"{path.name}: {which} {'counts' if one else 'count'} the rows and "
                f"{'has' if one else 'have'} no name, as pandas writes the index; ignored."
            )
        empty = self.header.count("") - len(self.index)
        if empty:
            columns = "1 column" if empty == 1 else f"{empty} columns"
            yield f"{path.name}: {columns} without a name and without values ignored."


def table_from(names: Record, judged: Sequence[Record], path: Path, line: int) -> Table:
    """The table with these column names; ``judged`` are its first records.

    Raises ``StudioError`` for a name that occurs twice and for a column with values but no name.
    """
    header = _header(names, path, line)
    if "" not in header:
        return Table(header)
    index = _index_columns(header, judged)
    _refuse_unnamed(path, line, header, index, judged)
    return Table(header, index)


def is_blank(record: Record) -> bool:
    """Whether a record has no value."""
    for value in record:
        if value is not None and not (isinstance(value, str) and (not value or value.isspace())):
            return False
    return True


def empty_rows_ignored(path: Path, count: int) -> str:
    """The note about records without a value."""
    return f"{path.name}: {'1 empty row' if count == 1 else f'{count} empty rows'} ignored."


def _header(names: Record, path: Path, line: int) -> tuple[str, ...]:
    header = tuple("" if name is None else str(name).strip() for name in names)
    for name in filter(None, header):
        if header.count(name) > 1:
            raise bad_file(
                path,
                f"has the column name “{name}” twice",
                _UNIQUE,
                "bad_header",
                line=line,
            )
    return header


def _index_columns(names: tuple[str, ...], judged: Sequence[Record]) -> frozenset[int]:
    """The first columns, if they have no name and hold whole numbers: the index of a data frame."""
    index: set[int] = set()
    for place, name in enumerate(names):
        if name or not all(_is_number(r[place]) for r in judged if place < len(r)):
            break
        index.add(place)
    return frozenset(index)


def _is_number(value: Any) -> bool:
    return str(value).strip().removeprefix("-").isdecimal()


def _refuse_unnamed(
    path: Path, line: int, names: tuple[str, ...], index: frozenset[int], judged: Sequence[Record]
) -> None:
    """Refuse a column with values but no name."""
    for place, name in enumerate(names):
        if (
            not name
            and place not in index
            and not is_blank([v for r in judged for v in r[place : place + 1]])
        ):
            raise bad_file(
                path,
                f"has a column without a name (column {place + 1})",
                _UNIQUE,
                "bad_header",
                line=line,
            )


def _fitted(record: Record, table: Table) -> Record:
    """The record without empty values beyond the header, and with the empty ones that are missing
    in columns that are left out.
    """
    width = len(table.header)
    if len(record) > width and is_blank(record[width:]):
        return record[:width]
    if len(record) < width and not any(table.header[len(record) :]):
        return [*record] + [""] * (width - len(record))
    return record


def _unnamed_error(record: Record, table: Table, path: Path, line: int) -> StudioError | None:
    """The error for a value in a column that is left out."""
    for place, (name, value) in enumerate(zip(table.header, record, strict=True)):
        if name or is_blank([value]) or (place in table.index and _is_number(value)):
            continue
        return bad_file(
            path,
            f"has a value in column {place + 1}, which has no name in the first line",
            _UNIQUE,
            "bad_header",
            line=line,
        )
    return None


def _width_error(
    record: Record, header: tuple[str, ...], path: Path, line: int
) -> StudioError | None:
    if len(record) == len(header):
        return None
    values = "1 value" if len(record) == 1 else f"{len(record)} values"
    return bad_file(
        path,
        f"has {values}, but the first line has {len(header)} columns",
        "Put values that contain the separator in double quotes."
        if len(header) > 1
        else "Remove lines above the names of the columns, or choose a file of another type.",
        "wrong_width",
        line=line,
    )
