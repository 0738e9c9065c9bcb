"""Rows of a data source by number, for displaying a few of them at a time.

Every row is available at once, even in a large file; bad rows are rows with an error. Shows the
files unchanged, before other settings exclude or move rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from studio.data.check import first_rows, options_of
from studio.data.detect import Chosen, format_of
from studio.data.reading import spool
from studio.data.reading.archive import archive_of, local_file
from studio.data.reading.conversations import Conversations, columns_of
from studio.data.reading.file_types import BINARY, kind_of_name
from studio.data.reading.index import FileIndex, index_of
from studio.data.reading.input import Input, open_seekable
from studio.data.reading.reader import check_file, kind_of, read_rows, reader_of
from studio.data.reading.source import ReadOptions, SourceRow, lost_row
from studio.data.sources import Sources, describe_sources, sources_of
from studio.data.used_rows import completed
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.node_settings.dataset import DatasetSettings

_MOST_OPEN = 16
_AT_ONCE = 256


class SourceWindow:
    """Rows of all files by number, from 1. Call ``close`` when it is no longer needed.

    ``chosen`` is the format; its ``convert`` makes the canonical row. ``settings`` are those of the
    node with the split that applies to these files.
    """

    def __init__(self, sources: Sources, chosen: Chosen) -> None:
        self.sources = sources
        self.settings = sources.settings
        self.files = (*sources.train, *sources.validation)
        self.chosen = chosen
        self._own = len(sources.train)
        self._options = options_of(self.settings)
        self._indexes: list[FileIndex | StudioError] = []
        self._open: OrderedDict[Path, tuple[Input, ExitStack]] = OrderedDict()
        self._copies = ExitStack()
        self._stamps: dict[Path, tuple[int, int] | None] = {}

    def __enter__(self) -> SourceWindow:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for _, stack in self._open.values():
            stack.close()
        self._open.clear()
        self._indexes.clear()
        self._copies.close()

    def release(self) -> None:
        """Close the files of the user until rows are read again: on Windows, no other program can replace, rename or
        delete a file that is open here."""
        for path, (source, stack) in list(self._open.items()):
            if not source.copied:
                stack.close()
                del self._open[path]
        for index in self._indexes:
            if not isinstance(index, StudioError):
                index.release()

    def has_changed(self) -> bool:
        """Whether a file has changed since it was first read: rows by number would be other ones."""
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())

    def count(self) -> int:
        """The number of rows, including bad ones."""
        return self.own_count() + sum(self._size(i) for i in range(self._own, len(self.files)))

    def own_count(self) -> int:
        """The number of rows without those of the validation file; the row limit applies to these."""
        total = sum(self._size(i) for i in range(self._own))
        return min(total, self.settings.limit) if self.settings.limit else total

    def has_unreadable_file(self) -> bool:
        """Whether no row of one of the files can be read."""
        return any(isinstance(self._index(i), StudioError) for i in range(len(self.files)))

    def remarks(self, *, numbers: bool) -> list[str]:
        """What the names of the files decide, which files are left out, and what the format has found in
        all rows; with ``numbers`` of rows, for which all files are read."""
        sides = (0, 0, 0)
        if numbers and (self.sources.by_name or self.sources.test):
            own = self.own_count()
            sides = own, self.count() - own, count_test_rows(self.sources, self.chosen)
        found = (*describe_sources(self.sources, *sides), *self.sources.remarks)
        return [*(remark.sentence for remark in found), *filter(None, [self.chosen.remark])]

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from number ``first`` to ``last``, inclusive, as far as they exist."""
        found: list[SourceRow] = []
        for index, start, end in self._parts(max(0, first - 1), last):
            maker = self._index(index)
            if isinstance(maker, StudioError):
                found.append(lost_row(maker, self.files[index], 1))
            else:
                found += maker.rows(start, end)
        return found

    def _parts(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """(file, first row, end) for rows counted through all files, from 0."""
        parts: list[tuple[int, int, int]] = []
        before = 0
        limit = self.settings.limit or None
        for index in range(len(self.files)):
            room = None if limit is None or index >= self._own else max(0, limit - before)
            size = self._size(index, last - before)
            size = size if room is None else min(size, room)
            start, end = max(first - before, 0), min(last - before, size)
            if start < end:
                parts.append((index, start, end))
            before += size
            if before >= last:
                break
        return parts

    def _size(self, index: int, upto: int | None = None) -> int:
        found = self._index(index)
        return 1 if isinstance(found, StudioError) else found.count(upto)

    def _index(self, index: int) -> FileIndex | StudioError:
        while len(self._indexes) <= index:
            self._indexes.append(self._make(self.files[len(self._indexes)]))
        return self._indexes[index]

    def _make(self, path: Path) -> FileIndex | StudioError:
        self._stamps[path] = _stamp(path)
        try:
            check_file(path, self._options)
            kind = kind_of(path, self._options)
            file = self._local(path) if kind in BINARY else path
            index = index_of(path, kind, self._options, self._opened, file)
            first = next(iter(index.rows(0, 1)), None)
            columns = columns_of(path, first, self._options) if first is not None else None
            if columns is None:
                return index
            rows = (row for at in count(0, _AT_ONCE) for row in index.rows(at, at + _AT_ONCE))
            return Conversations(path, columns, islice(rows, index.count()))
        except StudioError as error:
            return error

    def _local(self, path: Path) -> Path:
        """A file that libraries can open: a copy, kept until ``close``, of a member of an archive."""
        return self._copies.enter_context(local_file(path))

    def _opened(self, path: Path) -> Input:
        if path not in self._open:
            with ExitStack() as stack:
                if kind_of_name(path) in spool.KINDS:
                    reader = reader_of(path, self._options)
                    source = spool.open_spooled(path, self._options, reader, stack)
                else:
                    source = open_seekable(path, self._options, stack)
                self._open[path] = (source, stack.pop_all())
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)[1][1].close()
        self._open.move_to_end(path)
        return self._open[path][0]


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with the content of a file, or of the archive that it is in."""
    try:
        found = (archive_of(path) or path).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def open_window(
    settings: DatasetSettings, project_dir: Path, variants: Mapping[str, Variant]
) -> SourceWindow:
    """Open a window on the rows of a Dataset node; ``variants`` are the formats by id.

    Raises ``StudioError`` if no file is found, if its first rows cannot be read, or if they match no
    format.
    """
    sources = sources_of(settings, project_dir)
    first = sources.train[0]
    rows = _all_rows(first, options_of(settings))
    chosen = format_of(settings, first, rows, variants)
    chosen = completed(chosen, sources.settings, sources.train, sources.validation)
    return SourceWindow(sources, chosen)


def count_test_rows(sources: Sources, chosen: Chosen) -> int:
    """The number of rows in the test files; 0 if one of them cannot be read."""
    with SourceWindow(replace(sources, train=(), validation=sources.test), chosen) as tests:
        return 0 if tests.has_unreadable_file() else tests.count()


def _all_rows(path: Path, options: ReadOptions) -> list[SourceRow]:
    """The first readable rows; raises ``StudioError`` when there is none."""
    try:
        rows = first_rows(path, options, strict=False)
    except StudioError:
        rows = _rows_before_damage(path, options)
        if not rows:
            raise
    return rows or list(islice(read_rows(path, options), 1))  # one giant row


def _rows_before_damage(path: Path, options: ReadOptions) -> list[SourceRow]:
    rows: list[SourceRow] = []
    with suppress(StudioError):
        for row in read_rows(path, options, quick=True, strict=False):
            if row.error is None:
                rows.append(row)
    return rows
