"""SQLite databases: the rows of one table, opened read-only. The line of a row is its number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from studio.data.reading.archive import local_file
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, lost_row
from studio.data.reading.tables import named, no_table
from studio.errors import StudioError


def read_sqlite(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of a table; raises ``StudioError`` for a database that cannot be read."""
    with local_file(path) as file, _opened(path, file) as database:
        table = _table(path, database, options)
        if table is None:
            return
        (total,) = database.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()
        size = file.stat().st_size
        for number, data in enumerate(_rows(database, table), start=1):
            yield SourceRow(number, data, size * number // total, path)


class SqliteIndex:
    """The rows of a table by number."""

    def __init__(self, path: Path, options: ReadOptions, file: Path) -> None:
        self._path, self._file = path, file
        with _opened(path, file) as database:
            self._table = _table(path, database, options)
            self._count = 0
            if self._table is not None:
                query = f"SELECT count(*) FROM {_quoted(self._table)}"
                (self._count,) = database.execute(query).fetchone()

    def count(self, upto: int | None = None) -> int:
        """The number of rows."""
        del upto
        return self._count

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` up to ``last``, exclusive."""
        if self._table is None or first >= min(last, self._count):
            return []
        found: list[SourceRow] = []
        try:
            with _opened(self._path, self._file) as database:
                for data in _rows(database, self._table, first, last - first):
                    found.append(SourceRow(first + len(found) + 1, data, 0, self._path))
        except StudioError as error:
            found.append(lost_row(error, self._path, first + len(found) + 1))
        return found

    def release(self) -> None:
        """Does nothing: the database is open only while rows are read."""


@contextmanager
def _opened(path: Path, file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            # A row whose text is not UTF-8 is refused alone, where the text is used.
            database.text_factory = lambda raw: raw.decode("utf-8", errors="surrogateescape")
            yield database
    except sqlite3.Error as error:
        raise bad_file(
            path,
            f"is not a valid SQLite database ({error})",
            "Export the table as CSV, or repair the database.",
            "corrupt_sqlite",
        ) from error


def _rows(
    database: sqlite3.Connection, table: str, first: int = 0, count: int = -1
) -> Iterator[dict[str, Any]]:
    query = f"SELECT * FROM {_quoted(table)} LIMIT ? OFFSET ?"
    cursor = database.execute(query, (count, first))
    names = [column[0] for column in cursor.description]
    for record in cursor:
        yield dict(zip(names, record, strict=True))


def _table(path: Path, database: sqlite3.Connection, options: ReadOptions) -> str | None:
    """The table that is read, or ``None`` if all are empty."""
    kinds = "'table', 'view'" if options.table else "'table'"
    query = (
        f"SELECT name FROM sqlite_master WHERE type IN ({kinds}) "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    names = [name for (name,) in database.execute(query)]
    if options.table:
        if options.table not in names:
            raise no_table(path, "table", options.table, names)
        return options.table
    filled = [
        n for n in names if database.execute(f"SELECT 1 FROM {_quoted(n)} LIMIT 1").fetchone()
    ]
    if len(filled) > 1:
        error = bad_file(
            path,
            f"has several tables: {named(filled)}",
            "Enter the name of one as “Sheet or table” in the Dataset node.",
            "several_tables",
        )
        error.field = "table"
        raise error
    return filled[0] if filled else None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
