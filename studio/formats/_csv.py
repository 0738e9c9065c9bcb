"""CSV and TSV files: a header line, then one record a row; a record may span lines.

A row's line is where its record starts in the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from studio.errors import StudioError
from studio.formats._source import SourceRow, bad_file, numbered_lines

_DELIMITERS = (",", ";", "\t", "|")
_LARGEST_FIELD = 64 * 1024 * 1024


class _Lines:
    """The file's lines for the csv module, counting lines and bytes on the way."""

    def __init__(self, lines: Iterator[tuple[int, str, int]]) -> None:
        self._lines = lines
        self.number = 0
        self.done = 0
        self.ended = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            self.number, line, self.done = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        return line


def read_csv(path: Path, limit: int | None) -> Iterator[SourceRow]:
    """The records as column -> text; raises ``StudioError`` with the line where a record starts."""
    csv.field_size_limit(_LARGEST_FIELD)
    with path.open("rb") as file:
        lines = _Lines(numbered_lines(file, path, limit))
        reader = csv.reader(lines, delimiter=_delimiter(path), strict=True)
        header: list[str] = []
        for line, record in _records(reader, lines, path, limit):
            if not header:
                header = _header(record, path, line)
            else:
                _check_width(record, header, path, line)
                yield SourceRow(line, dict(zip(header, record, strict=True)), lines.done)


def _records(
    reader: Iterator[list[str]], lines: _Lines, path: Path, limit: int | None
) -> Iterator[tuple[int, list[str]]]:
    """(line where it starts, fields) of every record that is not blank."""
    while True:
        start = lines.number + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if limit is not None and lines.ended and lines.done < path.stat().st_size:
                return  # the quick look ends inside a record
            raise _broken(path, start, str(error), lines.ended) from error
        if record:
            yield start, record


def _broken(path: Path, line: int, reason: str, ended: bool) -> StudioError:
    what = f"is not valid CSV ({reason})"
    if ended:
        what = "opens a quoted value that never ends"
    elif "new-line character" in reason:
        what = "holds a bare carriage return"
    return bad_file(
        path, what, "Mend the quotes of that record; a quote inside a value is written twice.",
        "corrupt_csv", line=line,
    )  # fmt: skip


def _delimiter(path: Path) -> str:
    """The separator that occurs most often in the first line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open("rb") as file:
        first = file.readline(1 << 16).decode("utf-8", errors="replace")
    return max(_DELIMITERS, key=lambda mark: (first.count(mark), -_DELIMITERS.index(mark)))


def _header(record: list[str], path: Path, line: int) -> list[str]:
    names = [name.strip() for name in record]
    for name in names:
        if not name or names.count(name) > 1:
            what = f"names the column “{name}” twice" if name else "has a column without a name"
            raise bad_file(
                path, what, "Give every column a name of its own in the first line.", "bad_header",
                line=line,
            )  # fmt: skip
    return names


def _check_width(record: list[str], header: list[str], path: Path, line: int) -> None:
    if len(record) == len(header):
        return
    raise bad_file(
        path, f"has {len(record)} values, but the first line names {len(header)} columns",
        "Put values that hold the separator in double quotes.", "wrong_width", line=line,
    )  # fmt: skip
