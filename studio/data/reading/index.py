"""Index of the row positions of one file, for random access.

The index grows on demand, stores one position in sixteen rows, and is not written to disk. A row
that cannot be read is a row with an error, and so is the point where a file is damaged.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from studio.data.reading import csv as _csv
from studio.data.reading import json as _json
from studio.data.reading import jsonl as _jsonl
from studio.data.reading import spool as _spool
from studio.data.reading import text as _text
from studio.data.reading.arrow import batches_in
from studio.data.reading.arrow_rows import ArrowRows
from studio.data.reading.input import Input
from studio.data.reading.parquet import ROWS_AT_ONCE, damaged_row, sound
from studio.data.reading.source import ReadOptions, SourceRow, broken_packed, lost_row
from studio.data.reading.sqlite import SqliteIndex
from studio.errors import StudioError

_STRIDE = 16
_AHEAD = 4096
_BLOCK = 1 << 22
Open = Callable[[Path], Input]


class FileIndex(Protocol):
    """The rows of one file by number, from 0."""

    def count(self, upto: int | None = None) -> int:
        """The number of rows; with ``upto`` counting may stop there."""

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` up to ``last``, exclusive."""

    def release(self) -> None:
        """Close the file until rows are read again."""


def index_of(path: Path, kind: str, options: ReadOptions, open_text: Open, file: Path) -> FileIndex:
    """The index for a file of this type; raises ``StudioError``.

    ``file`` is where libraries open it: a copy, if ``path`` leads into an archive.
    """
    if kind == "parquet":
        return _Parquet(path, file)
    if kind == "arrow":
        return _Arrow(path, file)
    if kind == "sqlite":
        return SqliteIndex(path, options, file)
    if kind in _spool.KINDS:
        return _Spooled(path, kind, options, open_text)
    if kind == "jsonl":
        return _Lines(path, kind, options, open_text)
    return _Scanned(path, kind, options, open_text)


class _Scanned:
    """Text files: row positions are reported by the reader."""

    def __init__(self, path: Path, kind: str, options: ReadOptions, open_text: Open) -> None:
        self.path = path
        self._kind, self._options, self._open = kind, options, open_text
        self._starts, self._before = array("q"), array("q")  # offsets, and the lines before them
        self._known = 0
        self._ended = False
        self._failure: SourceRow | None = None
        self._table: _csv.CsvTable | None = None

    def count(self, upto: int | None = None) -> int:
        """The number of rows; with ``upto`` counting may stop there."""
        if not self._ended and (upto is None or self._known < upto):
            try:
                self._scan(None if upto is None else upto + _AHEAD)
            except (StudioError, OSError, EOFError, zlib.error) as error:
                self._fail(error)
            if self._ended and self._failure is None:
                damage = self._open(self.path).damage
                if damage is not None:
                    self._fail(damage)
        return self._known

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` up to ``last``, exclusive."""
        last = min(last, self.count(last))
        readable = self._known - (self._failure is not None)
        found: list[SourceRow] = []
        if first < min(last, readable):
            mark = first // _STRIDE
            reader = self._read(mark)
            skip = first - mark * _STRIDE
            found = list(islice(reader, skip, min(last, readable) - mark * _STRIDE))
        if self._failure is not None and first <= readable < last:
            found.append(self._failure)
        return found

    def release(self) -> None:
        """Does nothing: the file is opened and closed by the owner of the index."""

    def _read(self, mark: int) -> Iterator[SourceRow]:
        source = self._open(self.path)
        known = mark < len(self._starts)
        start = self._starts[mark] if known else None
        number = self._before[mark] if known else 0
        if start is None:
            source.file.seek(source.base)
        if self._kind == "csv":
            return self._records(source, start, number)
        readers = {"json": _json.rows_from, "jsonl": _jsonl.rows_from, "text": _text.rows_from}
        return readers[self._kind](source, self._options, start, number)

    def _records(self, source: Input, start: int | None, number: int) -> Iterator[SourceRow]:
        if start is None or self._table is None:
            self._table = _csv.table_of(source)
            source.file.seek(source.base)
            if start is None:
                return _csv.rows_from(source, self._options)
        if self._table is None:
            return iter(())
        return _csv.rows_from(source, self._options, self._table, start, number)

    def _scan(self, upto: int | None) -> None:
        mark = max(0, len(self._starts) - 1)
        at = mark * _STRIDE
        for row in self._read(mark):
            if at % _STRIDE == 0 and at // _STRIDE == len(self._starts):
                self._starts.append(row.start)
                self._before.append(row.line - 1)
            at += 1
            self._known = max(self._known, at)
            if upto is not None and self._known >= upto:
                return
        self._ended = True

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StudioError):
            line = self._before[-1] + 1 if self._before else 0
            error = broken_packed(self.path, line)
        self._failure = lost_row(error, self.path, self._known + 1)
        self._known += 1
        self._ended = True


class _Lines(_Scanned):
    """JSON lines: row positions are found without parsing."""

    _place = _line = _rows = 0

    def _scan(self, upto: int | None) -> None:
        source = self._open(self.path)
        self._place = max(self._place, source.base)
        while upto is None or self._rows < upto:
            if not self._block(source):
                self._ended = True
                return

    def _block(self, source: Input) -> bool:
        """Index the lines that end in the next block; false at the end of the file."""
        source.file.seek(self._place)
        size = _BLOCK
        while True:
            data = source.file.read(size)
            last = data.rfind(b"\n") + 1
            if last or len(data) < size:
                break
            size *= 2
            source.file.seek(self._place)
        if not data:
            return False
        data = data[:last] if last else data
        self._take(data)
        self._place += len(data)
        return True

    def _take(self, data: bytes) -> None:
        raw = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(raw == 10) + 1
        if not data.endswith(b"\n"):
            ends = np.append(ends, len(data))
        starts = np.concatenate(([0], ends[:-1]))
        kept = np.ones(len(starts), dtype=bool)
        for i in np.flatnonzero(np.isin(raw[starts], (9, 10, 11, 12, 13, 32))):
            kept[i] = not data[starts[i] : ends[i]].isspace()
        numbers = np.flatnonzero(kept)
        for i in numbers[(-self._rows) % _STRIDE :: _STRIDE]:
            self._starts.append(int(starts[i]) + self._place)
            self._before.append(self._line + int(i))
        self._rows += len(numbers)
        self._known = self._rows
        self._line += len(starts)


class _Spooled(_Lines):
    """Files whose rows are spooled as JSON lines."""

    def _read(self, mark: int) -> Iterator[SourceRow]:
        source = self._open(self.path)
        if mark < len(self._starts):
            return _spool.rows_from(source, self._starts[mark], self._before[mark])
        source.file.seek(source.base)
        return _spool.rows_from(source, None, 0)


class _Parquet:
    """Parquet: row groups are located by the file's metadata, and read in small blocks."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path = path
        self._place = file
        self._file: Any = None
        opened = self._opened()
        self._rows = ArrowRows(opened.schema_arrow)
        meta = opened.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._first = [0, *np.cumsum(sizes).tolist()]
        self._cursor: tuple[int, int, Any, Iterator[Any]] | None = None

    def count(self, upto: int | None = None) -> int:
        """The number of rows."""
        del upto
        return int(self._first[-1])

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` up to ``last``, exclusive."""
        found: list[SourceRow] = []
        last = min(last, self.count())
        while first < last:
            found += self._part(first, last)
            first = found[-1].line
        return found

    def _part(self, first: int, last: int) -> list[SourceRow]:
        """The rows in the same block as the first one, or in the damaged rest of its group."""
        try:
            with sound(self.path, "Parquet"):
                start, batch = self._batch(first)
        except StudioError as error:
            self._cursor = None
            end = min(last, self._first[self._group(first) + 1])
            return [damaged_row(self.path, n + 1, error) for n in range(first, end)]
        block = self._rows.of(batch.slice(first - start, last - first))
        return [SourceRow(first + 1 + i, d, 0, self.path) for i, d in enumerate(block)]

    def release(self) -> None:
        """Close the file until rows are read again."""
        self._cursor = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> Any:
        from pyarrow import parquet

        if self._file is None:
            with sound(self.path, "Parquet"):
                self._file = parquet.ParquetFile(self._place)
        return self._file

    def _group(self, number: int) -> int:
        return bisect_right(self._first, number) - 1

    def _batch(self, number: int) -> tuple[int, Any]:
        """The block of a row, and the number of its first row."""
        group = self._group(number)
        cursor = self._cursor
        if cursor is None or cursor[0] != group or number < cursor[1]:
            blocks = self._opened().iter_batches(ROWS_AT_ONCE, [group], use_threads=False)
            cursor = (group, self._first[group], next(blocks), blocks)
        while number >= cursor[1] + cursor[2].num_rows:
            start = cursor[1] + cursor[2].num_rows
            cursor = (group, start, next(cursor[3]), cursor[3])
        self._cursor = cursor
        return cursor[1], cursor[2]


class _Arrow:
    """Arrow: batches up to the first damaged one."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path = path
        self._place = file
        self._failure: SourceRow | None = None
        self._table: Any = None
        opened = self._opened()
        self._count = int(opened.num_rows)
        self._rows = ArrowRows(opened.schema)

    def count(self, upto: int | None = None) -> int:
        """The number of rows."""
        del upto
        return self._count + (self._failure is not None)

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` up to ``last``, exclusive."""
        part = self._rows.of(self._opened().slice(first, max(0, last - first)))
        found = [SourceRow(first + 1 + i, d, 0, self.path) for i, d in enumerate(part)]
        if self._failure is not None and first <= self._count < last:
            found.append(self._failure)
        return found

    def release(self) -> None:
        """Unmap the file until rows are read again."""
        self._table = None

    def _opened(self) -> Any:
        """The table, mapped."""
        import pyarrow as pa

        if self._table is None:
            batches: list[pa.RecordBatch] = []
            try:
                with sound(self.path, "Arrow"):
                    batches.extend(batches_in(pa.memory_map(str(self._place))))
            except StudioError as error:
                if not batches:
                    raise
                self._failure = lost_row(error, self.path, sum(b.num_rows for b in batches) + 1)
            self._table = pa.Table.from_batches(batches) if batches else pa.table({})
        return self._table
