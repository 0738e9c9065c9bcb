"""Which side of the split a row of a source is on: for training, for validation, or left out.

The Dataset step and everything that shows rows ask here. The sides by share, column and group are
known from a row and those before it; the one by count needs the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from studio.data.reading.source import SourceRow, bad_file
from studio.data.split.hashing import held_out_by_count, held_out_by_share
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings

Side = Literal["train", "validation", "left_out"]
_BLOCK = 4096


class Sides:
    """The sides of rows that come in order, counted from 0 by the caller or by itself."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._groups: dict[str, int] = {}
        self._names = column_names(settings)
        self._blocks: dict[int, Any] = {}
        self._by_count: Any = None
        self._seen: list[Side] = []

    def of(self, ordinal: int, row: SourceRow) -> Side:
        """The side of the next row; raises ``StudioError`` where its column does not say it.

        For a split by count all rows are on the training side: see ``held_out_by_count``.
        """
        mode = self._settings.split_mode
        if mode == "column":
            return self._by_column(row)
        if mode == "group":
            value = _value(row, self._settings.group_column, "group_column")
            ordinal = self._groups.setdefault(value, len(self._groups))
        elif mode != "fraction":
            return "train"
        return "validation" if self._share(ordinal) else "train"

    def _share(self, ordinal: int) -> bool:
        block, place = divmod(ordinal, _BLOCK)
        if block not in self._blocks:
            numbers = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
            s = self._settings
            self._blocks = {**self._blocks} if len(self._blocks) < 64 else {}
            self._blocks[block] = held_out_by_share(numbers, s.validation_fraction, s.seed)
        return bool(self._blocks[block][place])

    def _by_column(self, row: SourceRow) -> Side:
        name = self._settings.split_column
        value = _value(row, name, "split_column").strip().lower()
        side = self._names.get(value)
        if side is None:
            error = bad_file(
                row.path,
                f"has “{value}” in the split column “{name}”, which names no side",
                "Name that value in the settings of the split.",
                "unknown_side",
                line=row.line,
            )
            error.field = "split_column"
            raise error
        return side

    def fault(self, row: SourceRow) -> StudioError | None:
        """Why the side of a row cannot be told, where it cannot."""
        try:
            if row.error is None and self._settings.split_mode == "column":
                self._by_column(row)
            if row.error is None and self._settings.split_mode == "group":
                _value(row, self._settings.group_column, "group_column")
        except StudioError as error:
            return error
        return None

    def at(
        self, number: int, count: Callable[[], int], rows: Callable[[int, int], list[SourceRow]]
    ) -> Side:
        """The side of the row with this number, from 1; a bad row is left out."""
        mode = self._settings.split_mode
        if mode == "count":
            if self._by_count is None:
                total = count()
                held_out = min(self._settings.validation_count, max(0, total - 1))
                self._by_count = held_out_by_count(total, held_out, self._settings.seed)
            return "validation" if self._by_count[number - 1] else "train"
        if mode == "group":
            while len(self._seen) < number:
                start = len(self._seen)
                self._seen += [
                    self.of_any(start + i, r) for i, r in enumerate(rows(start + 1, start + _BLOCK))
                ]
                if len(self._seen) == start:
                    return "left_out"
            return self._seen[number - 1]
        if mode == "fraction":
            return "validation" if self._share(number - 1) else "train"
        found = rows(number, number) if mode == "column" else []
        return self.of_any(number - 1, found[0]) if found else "train"

    def of_any(self, ordinal: int, row: SourceRow) -> Side:
        """Like ``of``, for rows that are not used too: bad ones and those whose side is not said are
        left out. A row that the settings leave out still begins its group, so that leaving it out
        moves no other one."""
        if row.error is not None:
            return "left_out"
        try:
            return self.of(ordinal, row)
        except StudioError:
            return "left_out"


def column_names(settings: DatasetSettings) -> Mapping[str, Side]:
    """Values of the split column, in lower case, and what they mean."""
    sides: tuple[tuple[Side, str], ...] = (
        ("train", settings.train_values),
        ("validation", settings.validation_values),
        ("left_out", settings.left_out_values),
    )
    return {
        value.strip().lower(): side
        for side, values in sides
        for value in values.split(",")
        if value.strip()
    }


def _value(row: SourceRow, name: str, field: str) -> str:
    if row.data.get(name) is None:
        error = bad_file(
            row.path,
            f"has nothing in the column “{name}”, which decides its side of the split",
            "Fill it in, or name another column.",
            "no_split_column",
            line=row.line,
        )
        error.field = field
        raise error
    return str(row.data[name])
