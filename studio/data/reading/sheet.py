"""Spreadsheets: Excel workbooks (.xlsx, .xlsm, .xlsb, .xls) and OpenDocument (.ods).

One sheet is read: the first one with values that is not hidden, or the one that the settings name.
Its first row with values names the columns. Formulas count with their stored values, dates become
ISO 8601 text. The line of a row is its number in the sheet.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.data.reading.archive import local_file, refuse_bomb, stat_of
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.data.reading.table import JUDGED, Table, empty_rows_ignored, is_blank, table_from
from studio.data.reading.tables import no_table, other_tables
from studio.errors import StudioError

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

_LARGE = 20_000_000  # bytes; a larger workbook takes too long for a quick check
_LARGEST_EXACT = 2**53
_Line = tuple[int, list[Any]]


def read_sheet(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of a sheet; raises ``StudioError`` for a workbook that cannot be read.

    A quick check gives no rows of a large workbook.
    """
    if options.limit is not None and stat_of(path).size > _LARGE:
        return
    with local_file(path) as file, _workbook(path, file) as book:
        size = file.stat().st_size
        sheet = _chosen(path, book, options, size)
        if sheet is not None:
            yield from _rows(path, sheet, options, size)


@contextmanager
def _workbook(path: Path, file: Path) -> Iterator[CalamineWorkbook]:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    refuse_bomb(path, file)
    try:
        book = CalamineWorkbook.from_path(file)
    except PasswordError as error:
        raise bad_file(
            path,
            "is protected by a password",
            "Save it without a password.",
            "encrypted_file",
        ) from error
    except CalamineError as error:
        raise _broken(path, error) from error
    with book:
        try:
            yield book
        except CalamineError as error:
            raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> StudioError:
    reason = (str(error).splitlines() or ["no reason"])[0].rstrip(".")
    return bad_file(
        path,
        f"is not a valid spreadsheet ({reason})",
        "Save it again, or save the sheet as CSV.",
        "corrupt_sheet",
    )


def _chosen(
    path: Path, book: CalamineWorkbook, options: ReadOptions, size: int
) -> CalamineSheet | None:
    """The sheet that is read, or ``None`` if all are empty; the others are noted."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [m for m in book.sheets_metadata if m.typ is SheetTypeEnum.WorkSheet]
    names = [m.name for m in sheets]
    if options.table:
        if options.table not in names:
            raise no_table(path, "sheet", options.table, names)
        return book.get_sheet_by_name(options.table)
    shown = [m.name for m in sheets if m.visible is SheetVisibleEnum.Visible]
    hidden = [name for name in names if name not in shown]
    found: CalamineSheet | None = None
    others: list[str] = []
    for name in (*shown, *hidden):
        if found is None:
            sheet = book.get_sheet_by_name(name)
            found = sheet if sheet.height else None
        elif size > _LARGE or book.get_sheet_by_name(name).height:
            others.append(name)
    if found is not None and others:
        options.note(other_tables(path, "sheet", found.name, others))
    return found


def _rows(path: Path, sheet: CalamineSheet, options: ReadOptions, size: int) -> Iterator[SourceRow]:
    lines: Iterator[_Line] = enumerate(map(_values, sheet.iter_rows()), start=1)
    filled = ((number, record) for number, record in lines if not is_blank(record))
    first = next(filled, None)
    if first is None:
        return
    judged = list(islice(filled, JUDGED))
    table = table_from(first[1], [record for _, record in judged], path, first[0])
    for sentence in table.notes(path):
        options.note(sentence)
    total = max(sheet.total_height, 1)
    read, blank = first[0], 0
    for number, record in chain(judged, filled):
        blank += number - read - 1
        read = number
        if table.holds_nothing(record):
            blank += 1
        else:
            yield _row(path, table, number, record, size * number // total)
    if blank:
        options.note(empty_rows_ignored(path, blank))


def _row(path: Path, table: Table, line: int, record: list[Any], done: int) -> SourceRow:
    data = table.values(record, path, line)
    if isinstance(data, StudioError):
        return bad_row(line, path, data, done)
    return SourceRow(line, data, done, path)


def _values(record: list[Any]) -> list[Any]:
    return [_plain(value) for value in record]


def _plain(value: Any) -> Any:
    """A cell as JSON can hold it."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _LARGEST_EXACT else value
    if isinstance(value, datetime.datetime):
        is_date = value.time() == datetime.time()
        return value.date().isoformat() if is_date else value.isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, datetime.timedelta) else value
