"""The split: which rows are held out, and what duplicates, leaks and small data sets change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.data.reading.source import SourceRow
from studio.data.split.hashing import held_out_by_share
from studio.data.split.sides import Decision, SidesByNumber, SidesInOrder, Split
from studio.node_settings.dataset import DatasetSettings


def decision(contents: str, sides: str = "", **settings: Any) -> Decision:
    """One row per letter of ``contents``; equal letters are equal rows. ``sides`` has a ``v`` for
    each validation row; without it the split by share decides."""
    split = Split(DatasetSettings(**settings))
    rows = [SourceRow(n + 1, {"text": c}, 0) for n, c in enumerate(contents)]
    held_out = [
        (sides[n] == "v") if sides else split.side(n, row) == "validation"
        for n, row in enumerate(rows)
    ]
    hashes = np.array([ord(c) for c in contents], dtype=np.uint64)
    return split.decide(np.arange(len(rows)), np.array(held_out, dtype=bool), hashes)


def words(found: Decision) -> str:
    """The side of each row: t(rain), v(alidation) or a dash for a row that is left out."""
    return "".join(
        "t" if train else "v" if held_out else "-"
        for train, held_out in zip(found.train, found.validation, strict=True)
    )


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3])
def test_the_first_two_rows_are_on_both_sides_and_stay_there(seed: int, fraction: float) -> None:
    """So a data set that begins with two rows keeps their sides, whatever is appended."""
    options = {"validation_fraction": fraction, "seed": seed}
    two = words(decision("ab", **options))
    assert sorted(two) == ["t", "v"]
    assert words(decision("abcdefghijklmnopqrstuvwxyz" * 4, **options))[:2] == two


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.9])
def test_every_beginning_of_the_data_has_its_share(fraction: float) -> None:
    held_out = np.cumsum(held_out_by_share(np.arange(3000), fraction, 7))
    assert np.all(np.abs(held_out - fraction * np.arange(1, 3001)) < 1 + 1e-9)


def test_the_first_of_equal_rows_is_kept() -> None:
    found = decision("abacb", "tvvtt", split_mode="column", deduplicate=True)
    assert words(found) == "tv-t-"
    assert found.duplicates == 2


def test_a_leak_moves_to_training() -> None:
    found = decision("abcab", "ttvvv", split_mode="column", drop_validation_leaks=True)
    assert words(found) == "ttvtt"
    assert found.leaks == 2


def test_equal_validation_rows_are_no_leak() -> None:
    found = decision("abb", "tvv", split_mode="column", drop_validation_leaks=True)
    assert words(found) == "tvv"
    assert found.leaks == 0


def test_a_dropped_duplicate_makes_no_leak() -> None:
    """Its row to train on is gone, so the validation row measures honestly and stays."""
    options = {"split_mode": "column", "deduplicate": True, "drop_validation_leaks": True}
    found = decision("abcb", "tvtt", **options)
    assert words(found) == "tvt-"
    assert (found.duplicates, found.leaks) == (1, 0)


def test_dropped_duplicates_of_a_validation_row_leave_it_one() -> None:
    """The later one is left out as a duplicate, not moved as a leak."""
    options = {"split_mode": "column", "deduplicate": True, "drop_validation_leaks": True}
    found = decision("aab", "tvt", **options)
    assert words(found) == "t-t"
    assert (found.duplicates, found.leaks) == (1, 0)


@pytest.mark.parametrize("seed", range(10))
def test_a_side_that_duplicates_would_empty_gets_a_row(seed: int) -> None:
    found = decision("a" * 30 + "b", deduplicate=True, validation_fraction=0.1, seed=seed)
    assert sorted(words(found).replace("-", "")) == ["t", "v"]


def test_a_split_by_number_leaves_a_row_to_train_on() -> None:
    options = {"split_mode": "count", "validation_count": 5}
    assert sorted(words(decision("abc", **options))) == ["t", "v", "v"]
    assert words(decision("abcdefghij", **options)).count("v") == 5


class _Rows:
    """Rows of one file by number."""

    def __init__(self, rows: list[SourceRow], settings: DatasetSettings) -> None:
        self.settings = settings
        self._rows = rows
        self.read = 0

    def count(self) -> int:
        return len(self._rows)

    def own_count(self) -> int:
        return len(self._rows)

    def rows(self, first: int, last: int) -> list[SourceRow]:
        self.read += last - first + 1
        return self._rows[first - 1 : last]


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.2},
        {"validation_fraction": 0.05, "deduplicate": True},
        {"split_mode": "count", "validation_count": 40},
        {"split_mode": "count", "validation_count": 40, "deduplicate": True},
        {"split_mode": "group", "group_column": "text", "validation_fraction": 0.3},
        {"split_mode": "none"},
    ],
)
def test_a_view_gets_the_sides_of_the_step_in_any_order(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    contents = [f"row {n % 170}" for n in range(300)]
    parsed = DatasetSettings(**settings)
    rows = [SourceRow(n + 1, {"text": c}, 0, tmp_path) for n, c in enumerate(contents)]
    split = Split(parsed)
    own = np.array([split.side(n, r) == "validation" for n, r in enumerate(rows)], dtype=bool)
    step = split.decide(
        np.arange(len(rows)), own, np.array([n % 170 for n in range(300)], dtype=np.uint64)
    )
    view = SidesByNumber(_Rows(rows, parsed), lambda ordinal, row: row.data)
    for number in (300, 1, 171, *range(1, 301)):
        if step.kept[number - 1]:
            wanted = "validation" if step.held_out[number - 1] else "train"
            assert view.side(number) == wanted, number


def test_a_split_by_number_reads_few_rows_of_a_large_file() -> None:
    settings = DatasetSettings(split_mode="count", validation_count=10)
    data = _Rows([SourceRow(n + 1, {"text": str(n)}, 0) for n in range(50_000)], settings)
    view = SidesByNumber(data, lambda ordinal, row: row.data)
    assert sum(view.side(n) == "validation" for n in range(1, 50_001)) == 10
    assert data.read < 200


def in_order(contents: str, sides: str, settings: DatasetSettings | None) -> str:
    """The sides of rows that a view reads in order; see ``decision``."""
    order = SidesInOrder(settings)
    for number, (content, side) in enumerate(zip(contents, sides, strict=True), start=1):
        order.add(number, side == "v", ord(content))
    return words(order.decision(all_rows=True))


def test_rows_that_were_split_before_stay_as_they_are() -> None:
    assert in_order("aabb", "tvvt", None) == "tvvt"


def test_a_view_in_order_counts_duplicates_and_moves_leaks_as_the_step() -> None:
    options = DatasetSettings(split_mode="column", drop_validation_leaks=True)
    assert in_order("aabcb", "tvvvt", options) == "tttvt"
    alone = DatasetSettings(split_mode="column", deduplicate=True)
    assert in_order("aabcb", "tvvvt", alone) == "tvv"  # duplicates are not added
