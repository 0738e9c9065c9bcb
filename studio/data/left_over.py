"""The columns and keys of a file that its format does not use, each with the reason.

For displaying them before a run; what a run does with a row is decided in ``detect``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from studio.data.columns import (
    has_content,
    ignored_name,
    is_bookkeeping,
    is_index_name,
    marks_held_out,
    normalized,
)
from studio.data.detect import Chosen, column_map
from studio.data.reading.source import SourceRow
from studio.data.row_format import Canonical, RowError
from studio.errors import StudioError

Reason = Literal[
    "unused",
    "refused",
    "ignored",
    "declined",
    "repeated",
    "split",
    "template",
    "bookkeeping",
    "empty",
]
"""Why a column has no role: nothing uses it; rows with it are refused; it is one of the ignored columns;
its setting was left empty; its text also stands in the canonical row; it decides on the split; a template
uses it; it is bookkeeping; it holds nothing."""


@dataclass(frozen=True)
class LeftOver:
    """A column, or a key such as ``messages[].mood``; ``error`` is that of its first refused row."""

    name: str
    reason: Reason
    error: StudioError | None = None


def left_over(
    chosen: Chosen,
    columns: Sequence[str],
    converted: Sequence[tuple[SourceRow, Canonical | None]],
    others: Sequence[SourceRow] = (),
) -> list[LeftOver]:
    """What has no role: columns in the order of the file, then keys.

    ``converted`` are rows with their canonical row, or ``None`` where they are invalid. Further rows are
    only searched for keys, and for columns that the others do not have.
    """
    found = column_map(chosen.variant, chosen.settings, columns)
    taken = set(found["bound"].values())
    templates = set(chosen.variant.payload.used(chosen.settings))
    names = [c for c in columns if c not in taken]
    unused = _unused(chosen, names, converted, others)
    left: list[LeftOver] = []
    for name in names:
        if "row" in templates or name in templates:
            left.append(LeftOver(name, "template"))
        elif name not in found["unused"]:
            left.append(LeftOver(name, "declined"))
        else:
            left.append(_judged(chosen, name, unused))
    return left + [_judged(chosen, name, unused) for name in unused if name not in columns]


def _judged(chosen: Chosen, name: str, unused: dict[str, SourceRow | None]) -> LeftOver:
    if name in chosen.also_used:
        return LeftOver(name, "split")
    if normalized(ignored_name(name)) in chosen.ignored:
        return LeftOver(name, "ignored")
    held_out = unused.get(name)
    if is_bookkeeping(name) and not (
        held_out is not None and marks_held_out(name, held_out.data.get(name))
    ):
        return LeftOver(name, "bookkeeping")
    if name not in unused:
        return LeftOver(name, "empty")
    row = unused[name]
    if row is None and is_index_name(name):
        return LeftOver(name, "bookkeeping")
    if row is None:
        return LeftOver(name, "repeated")
    error = chosen.lost_content(name, row, row.path)
    return LeftOver(name, "refused" if error is not None else "unused", error)


def _unused(
    chosen: Chosen,
    names: Sequence[str],
    converted: Sequence[tuple[SourceRow, Canonical | None]],
    others: Sequence[SourceRow],
) -> dict[str, SourceRow | None]:
    """The columns and keys with content, each with the first row in which it is not used; ``None`` if its
    text is in the canonical rows."""
    every = replace(chosen, ignored=frozenset())
    found: dict[str, SourceRow | None] = {}
    for row, canonical in converted:
        for name in _of_row(every, row, canonical):
            found.setdefault(name, row)
    given = [row for row, _ in converted]
    for name in names:
        if any(has_content(row.data.get(name)) for row in given):
            found.setdefault(name, None)
        elif (with_it := _first_with(name, others)) is not None:
            found.setdefault(name, with_it)
    for row in others:
        for name in _keys(every, row):
            found.setdefault(name, row)
    return found


def _of_row(chosen: Chosen, row: SourceRow, canonical: Canonical | None) -> Sequence[str]:
    try:
        return chosen.unused(row.data, canonical or {})
    except RowError:  # of an invalid row
        return chosen.columns_not_used(tuple(n for n in row.data if has_content(row.data[n])))


def _keys(chosen: Chosen, row: SourceRow) -> Sequence[str]:
    try:
        return tuple(chosen.variant.payload.unused(row.data, chosen.settings))
    except RowError:
        return ()


def _first_with(name: str, rows: Sequence[SourceRow]) -> SourceRow | None:
    return next((row for row in rows if has_content(row.data.get(name))), None)
