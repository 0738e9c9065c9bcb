"""Counts the rows while the Dataset step reads them, and reports the counts as notices.

Uses one byte per row, and eight more where contents are compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from studio.data.detect import UNUSED, unused_hint
from studio.data.reading.source import Note, SourceRow
from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system.number_text import quantity

Shape = Literal["messages", "prompt", "text", "preference", "label"]
_NAMED = 5
_UNUSED_NAMED = 20
_REMARKS = {
    "duplicate_key": ("contains a key twice", "contain a key twice", "the last value is used")
}


class RowCounts:
    """The counts of one pass over the files.

    ``sides`` holds 1 for a validation row, ``ordinals`` the position of each kept row among all
    rows.
    """

    def __init__(self) -> None:
        self.sides = bytearray()
        self.ordinals = array("q")
        self.hashes = array("Q")
        self.notes: list[str] = []
        self.shape: Shape = "messages"
        self.skipped = self.dropped = self.left_out = 0
        self.first_error: StudioError | None = None
        self._bad: list[str] = []
        self._remarks: dict[str, list[Any]] = {}
        self._unused: dict[str, list[Any]] = {}

    @property
    def rows(self) -> int:
        """The number of kept rows."""
        return len(self.sides)

    def seen(self, row: SourceRow) -> None:
        """Record the conversions that were made for a row."""
        if row.remark:
            entry = self._remarks.setdefault(row.remark, [0, row.path, row.line])
            entry[0] += 1

    def unused(self, names: tuple[str, ...], row: SourceRow) -> None:
        """Record the columns and keys with content that a row has and the format does not use."""
        for name in names:
            entry = self._unused.setdefault(name, [0, row.path, row.line])
            entry[0] += 1

    def keep(self, canonical: Mapping[str, Any], held_out: bool, ordinal: int) -> None:
        """Record a row that is used."""
        if not self.sides:
            self.shape = shape_of(canonical)
        self.sides.append(held_out)
        self.ordinals.append(ordinal)

    def bad(self, error: StudioError, path: Path, line: int) -> None:
        """Record a row that is skipped because it is invalid."""
        self.skipped += 1
        self.first_error = self.first_error or error
        if len(self._bad) < _NAMED:
            self._bad.append(f"{path.name}:{error.line or line}")

    def tell(self, context: StepContext) -> None:
        """Report conversions and skipped rows as notices."""
        for note in list(dict.fromkeys(self.notes))[:20]:
            context.notice(note, note.hint if isinstance(note, Note) else "")
        for remark, (count, path, line) in self._remarks.items():
            one, many, so = _REMARKS.get(remark, (remark, remark, ""))
            what = "; ".join(filter(None, (one if count == 1 else many, so)))
            context.notice(f"{quantity(count, 'row')} {what} (first: line {line} of {path.name}).")
        self._tell_unused(context)
        if self.skipped and self.first_error is not None:
            more = f" and {self.skipped - _NAMED} more" if self.skipped > _NAMED else ""
            context.notice(
                f"{self.skipped} invalid {'row was' if self.skipped == 1 else 'rows were'} "
                f"skipped: {', '.join(self._bad)}{more}. First error: "
                f"{self.first_error.sentence}",
                self.first_error.hint,
            )
        for count, why in (
            (self.dropped, "by number"),
            (self.left_out, "by the split column"),
        ):
            if count:
                context.notice(f"{quantity(count, 'row')} excluded {why}.", level="info")

    def _tell_unused(self, context: StepContext) -> None:
        """One notice for all columns and keys that are not used."""
        if not self._unused:
            return
        named = [
            f"“{n}” ({quantity(c, 'row')})"
            for n, (c, *_) in list(self._unused.items())[:_UNUSED_NAMED]
        ]
        more = len(self._unused) - len(named)
        rest = f" and {more} more" if more > 0 else ""
        context.notice(f"{UNUSED}: {', '.join(named)}{rest}.", unused_hint(self._unused))


def shape_of(canonical: Mapping[str, Any]) -> Shape:
    """The kind of example that a canonical row is."""
    if canonical.get("chosen") is not None:
        return "preference"
    if canonical.get("label") is not None:
        return "label"
    if canonical.get("messages") is not None:
        return "messages"
    return "prompt" if canonical.get("completion") is not None else "text"
