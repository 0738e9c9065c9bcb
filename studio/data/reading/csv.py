"""CSV and TSV files: a header line, then one record per row; a record may span lines.

The line of a row is where its record starts. After a record with broken quotes, reading continues
at the next line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading.input import Input, decode, lines_of, open_input
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.errors import StudioError

_DELIMITERS = (",", ";", "\t", "|")
_LARGEST_RECORD = 64 * 1024 * 1024
_Line = tuple[int, bytes, int]


class _Undecodable(Exception):
    """A line that is not UTF-8, which the csv module passes through."""


class _Lines:
    """The file's lines for the csv module.

    ``record`` holds the lines of the current record, so that reading can continue after its first
    line when its quotes are broken.
    """

    def __init__(self, lines: Iterator[_Line], path: Path) -> None:
        self._lines = lines
        self._path = path
        self._again: deque[_Line] = deque()
        self.record: list[_Line] = []
        self.size = 0
        self.ended = False
        self.last: StudioError | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.size > _LARGEST_RECORD:
            raise csv.Error("a value larger than 64 MB")
        try:
            line = self._again.popleft() if self._again else next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.record.append(line)
        self.size += len(line[1])
        try:
            return decode(line[1], self._path, line[0])
        except StudioError as error:
            self.last = error
            raise _Undecodable from error

    def begin(self) -> None:
        """Begin a new record."""
        self.record, self.size, self.last = [], 0, None

    def give_back(self) -> None:
        """Return all lines of the record but the first, to be read again."""
        self._again.extendleft(reversed(self.record[1:]))
        self.ended = False

    @property
    def end(self) -> int:
        """The end of the record in the text."""
        _, raw, place = self.record[-1]
        return place + len(raw)


@dataclass(frozen=True)
class Table:
    """The columns of a file and their delimiter."""

    header: tuple[str, ...]
    delimiter: str


def read_csv(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The records as column -> text; an invalid record is a bad row."""
    with open_input(path, options) as source:
        yield from rows_from(source, options)


def rows_from(
    source: Input,
    options: ReadOptions,
    table: Table | None = None,
    start: int | None = None,
    number: int = 0,
) -> Iterator[SourceRow]:
    """The records from a position in the text; without ``table`` from its header."""
    csv.field_size_limit(_LARGEST_RECORD)
    lines = lines_of(source, options.limit, start=start, number=number)
    if table is None:
        table, lines = _table(source, lines)
        if table is None:
            return
    yield from _records(source, options, table, _Lines(lines, source.path))


def table_of(source: Input) -> Table | None:
    """The header of a file, or ``None`` if it is empty; raises ``StudioError``."""
    return _table(source, lines_of(source))[0]


def _table(source: Input, lines: Iterator[_Line]) -> tuple[Table | None, Iterator[_Line]]:
    """The header, and the lines after it."""
    first = next((line for line in lines if not line[1].isspace()), None)
    if first is None:
        return None, lines
    text = decode(first[1], source.path, first[0])
    if text.strip().lower().startswith("sep=") and len(text.strip()) == 5:
        delimiter = text.strip()[4]  # as Excel writes it
    else:
        delimiter = _delimiter(source.path, text)
        lines = _chained(first, lines)
    own = _Lines(lines, source.path)
    reader = csv.reader(own, delimiter=delimiter, strict=True)
    try:
        record = next((r for r in reader if r), [])
    except csv.Error as error:
        raise _broken(source.path, first[0], str(error), own.ended) from error
    except _Undecodable:
        assert own.last is not None
        raise own.last from None
    return Table(_header(record, source.path, first[0]), delimiter), lines


def _chained(first: _Line, lines: Iterator[_Line]) -> Iterator[_Line]:
    yield first
    yield from lines


def _records(
    source: Input, options: ReadOptions, table: Table, lines: _Lines
) -> Iterator[SourceRow]:
    reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
    while True:
        lines.begin()
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if options.limit is not None and lines.ended and source.file.read(1):
                return  # the quick check ends inside a record
            line = lines.record[0][0]
            yield _bad(source, lines, _broken(source.path, line, str(error), lines.ended))
            lines.give_back()
            reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
        except _Undecodable:
            assert lines.last is not None
            yield _bad(source, lines, lines.last)
            reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
        else:
            if record:
                yield _row(source, table, lines, record)


def _bad(source: Input, lines: _Lines, error: StudioError) -> SourceRow:
    line, _, place = lines.record[0]
    return bad_row(line, source.path, error, source.done(lines.end), place)


def _row(source: Input, table: Table, lines: _Lines, record: list[str]) -> SourceRow:
    line, _, place = lines.record[0]
    error = _width_error(record, table.header, source.path, line)
    if error is None and any("\0" in value for value in record):
        error = bad_file(
            source.path,
            "contains NUL characters, which are not valid in text",
            "Save the table again as CSV.",
            "bad_character",
            line=line,
        )
    if error is not None:
        return _bad(source, lines, error)
    data = dict(zip(table.header, record, strict=True))
    return SourceRow(line, data, source.done(lines.end), source.path, None, place)


def _broken(path: Path, line: int, reason: str, ended: bool) -> StudioError:
    what = f"is not valid CSV ({reason})"
    if ended or "64 MB" in reason or "field larger" in reason:
        what = "starts a quoted value that is not closed"
    elif "new-line character" in reason:
        what = "contains a bare carriage return"
    return bad_file(
        path,
        what,
        "Correct the quotes in that record; a quote inside a value is written twice.",
        "corrupt_csv",
        line=line,
    )


def _delimiter(path: Path, first: str) -> str:
    """The most frequent delimiter in the first line."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if name.suffix.lower() == ".tsv":
        return "\t"
    return max(_DELIMITERS, key=lambda mark: (first.count(mark), -_DELIMITERS.index(mark)))


def _header(record: list[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(name.strip() for name in record)
    for name in names:
        if not name or names.count(name) > 1:
            what = f"has the column name “{name}” twice" if name else "has a column without a name"
            raise bad_file(
                path,
                what,
                "Give each column a unique name in the first line.",
                "bad_header",
                line=line,
            )
    return names


def _width_error(
    record: list[str], header: tuple[str, ...], path: Path, line: int
) -> StudioError | None:
    if len(record) == len(header):
        return None
    values = "1 value" if len(record) == 1 else f"{len(record)} values"
    return bad_file(
        path,
        f"has {values}, but the first line has {len(header)} columns",
        "Put values that contain the separator in double quotes.",
        "wrong_width",
        line=line,
    )
