"""CSV and TSV files: a header line, then one record per row; a record may span lines.

The line of a row is where its record starts. After a record with broken quotes, reading continues
at the next line. What spreadsheets and data frames add is left out and noted: a column without a
name that counts the rows, columns and records without a value.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from studio.data.reading.file_types import PACKED
from studio.data.reading.input import Input, decode, lines_of, open_input
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.data.reading.table import JUDGED, Table, empty_rows_ignored, is_blank, table_from
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
class CsvTable(Table):
    """The columns of a file and their delimiter."""

    delimiter: str = ","


def read_csv(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The records as column -> text; an invalid record is a bad row."""
    with open_input(path, options) as source:
        yield from rows_from(source, options)


def rows_from(
    source: Input,
    options: ReadOptions,
    table: CsvTable | None = None,
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
        for sentence in table.notes(source.path):
            options.note(sentence)
    yield from _records(source, options, table, _Lines(lines, source.path))


def table_of(source: Input) -> CsvTable | None:
    """The header of a file, or ``None`` if it is empty; raises ``StudioError``."""
    return _table(source, lines_of(source))[0]


def _table(source: Input, lines: Iterator[_Line]) -> tuple[CsvTable | None, Iterator[_Line]]:
    """The header, and the lines after it."""
    first = next((line for line in lines if not line[1].isspace()), None)
    if first is None:
        return None, lines
    text = decode(first[1], source.path, first[0])
    if text.strip().lower().startswith("sep=") and len(text.strip()) == 5:
        delimiter = text.strip()[4]  # as Excel writes it
    else:
        delimiter = _delimiter(source.path, text)
        lines = _chained([first], lines)
    own = _Lines(lines, source.path)
    reader = csv.reader(own, delimiter=delimiter, strict=True)
    try:
        record = next((r for r in reader if not is_blank(r)), [])
    except csv.Error as error:
        raise _broken(source.path, first[0], str(error), own.ended) from error
    except _Undecodable:
        assert own.last is not None
        raise own.last from None
    line = own.record[-1][0] if own.record else first[0]
    own.begin()
    judged: list[list[str]] = []
    try:
        if not all(map(str.strip, record)):
            judged = list(islice((r for r in reader if not is_blank(r)), JUDGED))
    except (csv.Error, _Undecodable):
        pass  # reported with the line when the records are read
    columns = table_from(record, judged, source.path, line)
    return CsvTable(columns.header, columns.index, delimiter), _chained(own.record, lines)


def _chained(first: Sequence[_Line], lines: Iterator[_Line]) -> Iterator[_Line]:
    yield from first
    yield from lines


def _records(
    source: Input, options: ReadOptions, table: CsvTable, lines: _Lines
) -> Iterator[SourceRow]:
    reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
    blank = 0
    while True:
        lines.begin()
        try:
            record = next(reader)
        except StopIteration:
            if blank:
                options.note(empty_rows_ignored(source.path, blank))
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
            if not table.holds_nothing(record):
                yield _row(source, table, lines, record)
            elif record:
                blank += 1


def _bad(source: Input, lines: _Lines, error: StudioError) -> SourceRow:
    line, _, place = lines.record[0]
    return bad_row(line, source.path, error, source.done(lines.end), place)


def _row(source: Input, table: CsvTable, lines: _Lines, record: list[str]) -> SourceRow:
    line, _, place = lines.record[0]
    data = table.values(record, source.path, line)
    if not isinstance(data, StudioError) and any("\0" in value for value in record):
        data = bad_file(
            source.path,
            "contains NUL characters, which are not valid in text",
            "Save the table again as CSV.",
            "bad_character",
            line=line,
        )
    if isinstance(data, StudioError):
        return _bad(source, lines, data)
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
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    if name.suffix.lower() == ".tsv":
        return "\t"
    return max(_DELIMITERS, key=lambda mark: (first.count(mark), -_DELIMITERS.index(mark)))
