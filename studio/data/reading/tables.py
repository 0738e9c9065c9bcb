"""Which sheet of a workbook or table of a database is read: sentences for the choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studio.data.reading.source import Note, bad_file
from studio.errors import StudioError


def other_tables(path: Path, kind: str, read: str, others: Sequence[str]) -> Note:
    """The note about further sheets with rows that are not read."""
    verb = "is" if len(others) == 1 else "are"
    return Note(
        f"{path.name}: the {kind} “{read}” is read; {named(others)} {verb} not.",
        "other_tables",
        "table",
        f"Choose another {kind} in the Dataset node if that is wrong.",
    )


def no_table(path: Path, kind: str, wanted: str, names: Sequence[str]) -> StudioError:
    """The error for a sheet or table that the file does not have."""
    error = bad_file(
        path,
        f"has no {kind} “{wanted}”; it has {named(names) if names else 'none'}",
        "Choose one of them in the Dataset node as “Sheet or table”, or leave it empty.",
        "no_table",
    )
    error.field = "table"
    error.choices = tuple(names)
    return error


def named(names: Sequence[str]) -> str:
    """Names in quotation marks, the first ten."""
    shown = ", ".join(f"“{name}”" for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
