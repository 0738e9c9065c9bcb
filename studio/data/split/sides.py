"""The split of a row: training, validation, or excluded.

All rules are here. The Dataset step calls ``Split`` while it reads, and once more when all rows are
known: duplicates, leaks, a split by number and an empty split depend on all of them. Views use
``SidesByNumber`` for single rows, which reads only the rows it needs, and ``SidesInOrder`` where they
read all rows: the report and the rows of a batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from studio.data.canonical import content_hash, to_arrow
from studio.data.reading.source import SourceRow, bad_file
from studio.data.split.hashing import held_out_by_share, ranks
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings

Side = Literal["train", "validation", "left_out"]
_BLOCK = 4096
_SMALL = 2000
"""With fewer rows a split by share may be empty by chance."""
_ROWS_AT_ONCE = 256
_CANDIDATES = 64
MOST_COMPARED = 3_000_000
"""With more different contents, a view does not notice later duplicates while it reads."""


@dataclass(frozen=True)
class Decision:
    """The splits of all rows, as boolean arrays in their order.

    ``duplicates`` counts the rows that were excluded, ``leaks`` those that were moved to training.
    """

    kept: Any
    held_out: Any
    duplicates: int = 0
    leaks: int = 0

    @property
    def train(self) -> Any:
        """The training rows."""
        return self.kept & ~self.held_out

    @property
    def validation(self) -> Any:
        """The validation rows."""
        return self.kept & self.held_out


class Split:
    """The split of one Dataset node, for rows in order."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._groups: dict[str, int] = {}
        self._values = _side_by_value(settings)
        self._blocks: dict[int, Any] = {}

    @property
    def compares_content(self) -> bool:
        """Whether ``decide`` needs the hash of each row's content."""
        return self._settings.deduplicate or self._settings.drop_validation_leaks

    def side(self, ordinal: int, row: SourceRow, *, validation_file: bool = False) -> Side:
        """The split by the row's position, group, column or file; ``ordinal`` counts from 0.

        Raises ``StudioError`` if the column does not name a split. With a split by number every row
        is a training row until ``decide``.
        """
        if validation_file:
            return "validation"
        mode = self._settings.split_mode
        if mode == "column":
            return self._by_column(row)
        if mode == "group":
            value = _value(row, self._settings.group_column, "group_column")
            return self.by_share(self._groups.setdefault(value, len(self._groups)))
        return self.by_share(ordinal) if mode == "fraction" else "train"

    def side_or_left_out(self, ordinal: int, row: SourceRow) -> Side:
        """Like ``side``; rows that cannot be read and rows without a split are excluded.

        An excluded row still begins its group, so that excluding it moves no other row.
        """
        if row.error is not None:
            return "left_out"
        try:
            return self.side(ordinal, row)
        except StudioError:
            return "left_out"

    def by_share(self, ordinal: int) -> Side:
        """The split of a row or group by its position alone."""
        block, place = divmod(ordinal, _BLOCK)
        if block not in self._blocks:
            numbers = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
            s = self._settings
            self._blocks = {**self._blocks} if len(self._blocks) < 64 else {}
            self._blocks[block] = held_out_by_share(numbers, s.validation_fraction, s.seed)
        return "validation" if self._blocks[block][place] else "train"

    def _by_column(self, row: SourceRow) -> Side:
        name = self._settings.split_column
        value = _value(row, name, "split_column").strip().lower()
        side = self._values.get(value)
        if side is None:
            error = bad_file(
                row.path,
                f"has “{value}” in the split column “{name}”, which is not one of the split values",
                "Add the value in the split settings.",
                "unknown_side",
                line=row.line,
            )
            error.field = "split_column"
            raise error
        return side

    def fault(self, row: SourceRow) -> StudioError | None:
        """Why the row has no split, or ``None`` if it has one."""
        try:
            if row.error is None and self._settings.split_mode == "column":
                self._by_column(row)
            if row.error is None and self._settings.split_mode == "group":
                _value(row, self._settings.group_column, "group_column")
        except StudioError as error:
            return error
        return None

    def decide(
        self, ordinals: Any, held_out: Any, hashes: Any, *, all_rows: bool = True
    ) -> Decision:
        """The splits of all used rows.

        ``ordinals`` are their positions among all rows, from 0, ``held_out`` is the result of
        ``side``, ``hashes`` are their contents (empty unless ``compares_content``). Without
        ``all_rows`` more rows follow, and what depends on all of them stays as ``held_out`` says.
        """
        settings = self._settings
        kept = np.ones(len(ordinals), dtype=bool)
        if settings.deduplicate:
            kept[:] = False
            kept[np.unique(hashes, return_index=True)[1]] = True  # the first row of each
        if all_rows and settings.split_mode == "count":
            held_out = self._by_number(ordinals, kept, settings.validation_count)
        elif all_rows and settings.split_mode == "fraction" and settings.validation_fraction > 0:
            held_out = self._with_both_sides(ordinals, kept, held_out)
        decision = Decision(kept, held_out, int((~kept).sum()))
        if not settings.drop_validation_leaks:
            return decision
        leaking = leaks_among(decision, hashes)
        return replace(decision, held_out=held_out & ~leaking, leaks=int(leaking.sum()))

    def _by_number(self, ordinals: Any, kept: Any, wanted: int) -> Any:
        used = {int(n) for n in ordinals[kept]}
        drawn = _lowest_ranked(
            max(used, default=-1) + 1, wanted, self._settings.seed, used.intersection
        )
        return np.isin(ordinals, list(drawn)) & kept

    def _with_both_sides(self, ordinals: Any, kept: Any, held_out: Any) -> Any:
        """If excluded rows left a split empty, move the row of lowest rank there. A single row is
        trained on."""
        sides = held_out[kept]
        if len(sides) < 2:
            return np.zeros_like(held_out)
        if sides.any() != sides.all():
            return held_out
        first = self._by_number(ordinals, kept, 1)
        return first if not sides.any() else ~first


class RowsByNumber(Protocol):
    """Rows of files by number, from 1 (``studio.data.window``)."""

    settings: DatasetSettings

    def count(self) -> int:
        """The number of rows."""

    def own_count(self) -> int:
        """The number of rows without those of the validation file."""

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The rows from ``first`` to ``last``, inclusive."""


class SidesByNumber:
    """The split of a row by number, from 1, as in the Dataset step before leaks are moved and
    duplicates excluded.

    ``used`` returns the canonical row of an ordinal (from 0), ``None`` if the step does not use it.
    ``tick`` is called with the rows done and their total while all rows are read, and may raise.
    """

    def __init__(
        self,
        data: RowsByNumber,
        used: Callable[[int, SourceRow], Mapping[str, Any] | None],
        tick: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._settings = data.settings
        self._data = data
        self._used = used
        self._split = Split(data.settings)
        self._count = data.count()
        self._by_group: list[Side] = []
        self._held_out: frozenset[int] | None = None
        if self._needs_all():
            self._held_out = self._decided(tick)

    def _needs_all(self) -> bool:
        """Whether every row has to be read first: for a split by number with duplicates excluded,
        and for a share of a small data set.
        """
        settings = self._settings
        if settings.split_mode == "count":
            return settings.deduplicate
        by_share = settings.split_mode == "fraction" and settings.validation_fraction > 0
        return by_share and self._count <= _SMALL

    def side(self, number: int) -> Side:
        """The split of a row; a row that cannot be read is excluded if its split depends on its content."""
        mode = self._settings.split_mode
        if mode == "count" and self._held_out is None:
            self._held_out = _lowest_ranked(
                self._count, self._settings.validation_count, self._settings.seed, self._among_used
            )
        if self._held_out is not None:
            return "validation" if number - 1 in self._held_out else "train"
        if mode == "file":
            return "train" if number <= self._data.own_count() else "validation"
        if mode == "group":
            return self._of_group(number)
        if mode == "fraction":
            return self._split.by_share(number - 1)
        found = self._data.rows(number, number) if mode == "column" else []
        return self._split.side_or_left_out(number - 1, found[0]) if found else "train"

    def fault(self, row: SourceRow) -> StudioError | None:
        """Why the row has no split, or ``None`` if it has one."""
        return self._split.fault(row)

    def _of_group(self, number: int) -> Side:
        """Groups are numbered in order of first appearance, so the rows before this one are read."""
        while len(self._by_group) < number:
            start = len(self._by_group)
            self._by_group += [
                self._split.side_or_left_out(ordinal, row)
                for ordinal, row in enumerate(self._data.rows(start + 1, start + _BLOCK), start)
            ]
            if len(self._by_group) == start:
                return "left_out"
        return self._by_group[number - 1]

    def _among_used(self, ordinals: list[int]) -> set[int]:
        """The rows, of these in ascending order, that the Dataset step uses."""
        return {n for n in ordinals if self._used(n, *self._data.rows(n + 1, n + 1)) is not None}

    def _decided(self, tick: Callable[[int, int], None]) -> frozenset[int]:
        """The validation rows, from 0, found by reading all rows."""
        by_share = self._settings.split_mode == "fraction"
        ordinals, hashes = array("q"), array("Q")
        for first in range(0, self._count, _ROWS_AT_ONCE):
            tick(first, self._count)
            rows = self._data.rows(first + 1, min(first + _ROWS_AT_ONCE, self._count))
            for ordinal, row in enumerate(rows, start=first):
                canonical = self._used(ordinal, row)
                if canonical is None:
                    continue
                ordinals.append(ordinal)
                if self._settings.deduplicate:
                    hashes.append(content_hash(to_arrow(canonical)))
        places = np.array(ordinals, dtype=np.int64)
        own = [by_share and self._split.by_share(n) == "validation" for n in ordinals]
        before_leaks = Split(self._settings.model_copy(update={"drop_validation_leaks": False}))
        decision = before_leaks.decide(
            places, np.array(own, dtype=bool), np.array(hashes, dtype=np.uint64)
        )
        return frozenset(places[decision.validation].tolist())


class SidesInOrder:
    """The split of all rows for a view that reads them in order: that of the Dataset step.

    Duplicates are known at once, everything else from ``decision``. ``settings`` is ``None`` for
    rows that have been split already, which stay as they are.
    """

    def __init__(self, settings: DatasetSettings | None) -> None:
        self._split = None if settings is None else Split(settings)
        self._first: dict[int, int] = {}
        self._numbers, self._hashes = array("q"), array("Q")
        self._held_out = bytearray()
        self.excludes_duplicates = settings is not None and settings.deduplicate
        self.excluded = 0

    @property
    def is_full(self) -> bool:
        """Whether duplicates among later rows are not noticed by ``add``."""
        return len(self._first) >= MOST_COMPARED

    def add(self, number: int, held_out: bool, content: int) -> int:
        """Add a used row: its number, from 1, the result of ``side``, and the hash of its content.

        Returns the number of the first row with the same content, or 0. If duplicates are excluded,
        such a row is only counted.
        """
        first = self._first.get(content, 0)
        if first and self.excludes_duplicates:
            self.excluded += 1
            return first
        if not first and not self.is_full:
            self._first[content] = number
        self._numbers.append(number)
        self._hashes.append(content)
        self._held_out.append(held_out)
        return first

    def number(self, index: int) -> int:
        """The number of an added row."""
        return self._numbers[index]

    @property
    def numbers(self) -> Any:
        """The numbers of the added rows, in order."""
        return np.array(self._numbers, dtype=np.int64)

    @property
    def hashes(self) -> Any:
        """The hashes of the added rows."""
        return np.array(self._hashes, dtype=np.uint64)

    def decision(self, *, all_rows: bool) -> Decision:
        """The splits of the added rows; without ``all_rows`` more follow."""
        held_out = np.frombuffer(bytes(self._held_out), np.uint8).astype(bool)
        if self._split is None:
            return Decision(np.ones(len(held_out), dtype=bool), held_out)
        return self._split.decide(self.numbers - 1, held_out, self.hashes, all_rows=all_rows)


def leaks_among(decision: Decision, hashes: Any) -> Any:
    """Which validation rows have the content of a training row, as a boolean array."""
    return decision.validation & np.isin(hashes, hashes[decision.train])


def refuse_empty_side(settings: DatasetSettings, train: int, validation: int) -> None:
    """Raise ``StudioError`` when a split is empty although the settings require it."""
    if train == 0:
        raise StudioError(
            "no training rows are left: all rows are validation rows.",
            hint="Choose another split, or check the values of its column.",
            field="split_mode",
            code="no_train_rows",
        )
    if validation == 0 and settings.split_mode in ("column", "file"):
        raise StudioError(
            "there are no validation rows."
            if settings.split_mode == "file"
            else (
                f"there are no validation rows: the column “{settings.split_column}” contains none of the "
                "validation values."
            ),
            hint="Choose another split, or “None”.",
            field="split_mode",
            code="no_validation_rows",
        )
    if validation == 0 and settings.split_mode == "group" and settings.validation_fraction > 0:
        raise StudioError(
            f"all rows have the same value in the column “{settings.group_column}”, so no group can be held "
            "out.",
            hint="Choose another column, or another split.",
            field="group_column",
            code="one_group",
        )


def _lowest_ranked(
    count: int, wanted: int, seed: int, used: Callable[[list[int]], set[int]]
) -> frozenset[int]:
    """The rows, from 0, that a split by number holds out: the ``wanted`` used rows of lowest rank.

    At least one training row remains. Of ``count`` rows only as many are tested, in ascending
    batches, as needed.
    """
    order = np.argsort(ranks(np.arange(count), seed), kind="stable")
    found: list[int] = []
    done = 0
    while len(found) <= wanted and done < count:
        batch = order[done : done + max(wanted + 1 - len(found), _CANDIDATES)].tolist()
        done += len(batch)
        good = used(sorted(batch))
        found += [n for n in batch if n in good]
    return frozenset(found[: max(0, min(wanted, len(found) - 1))])


def _side_by_value(settings: DatasetSettings) -> Mapping[str, Side]:
    """Values of the split column, in lower case, and the split that each names."""
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
    value = row.data.get(name)
    if value is None or value != value:  # null or NaN
        error = bad_file(
            row.path,
            f"has no value in the column “{name}”, which determines its split",
            "Enter a value, or choose another column.",
            "no_split_column",
            line=row.line,
        )
        error.field = field
        raise error
    return str(value)
