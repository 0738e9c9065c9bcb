"""The data report counts what the Dataset step makes: both sides, duplicates, leaks and tokens, over
random data sets and settings.
"""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from studio.data.split import sides
from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.preview.report import DataReport
from studio.training.data.by_number import PreparedRows, Rows, WindowRows
from studio.training.data.rows import prepare_rows
from studio.training.data_host.batch_view import TrainingRows
from studio.training.report.row_facts import facts_of
from studio.training.tokens.encoder import Encoder, open_rows
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_report import LENGTH, report_on
from tests.tiny import make_tiny_tokenizer

MODES = ("fraction", "count", "group", "column", "file", "none")
REFUSED = {"no_train_rows", "no_validation_rows", "one_group", "no_rows"}
"""Reasons why the Dataset step refuses the split; the counts of the report must show each."""


def random_rows(draw: random.Random, path: Path, start: int = 0) -> None:
    """A file with repeated rows, rows that cannot be read, and rows without a split."""
    count = draw.choice((1, 2, 5, 12, 30))
    different = draw.randint(1, count)
    lines = []
    for _ in range(count):
        number = start + draw.randrange(different)
        row: dict[str, Any] = {"prompt": f"what is {number}? ", "completion": "ab" * (number + 1)}
        if draw.random() < 0.95:
            row["who"] = draw.choice("abcd")
        row["side"] = draw.choice(("train", "train", "val", "test", "train", "val"))
        lines.append("{broken" if draw.random() < 0.05 else json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def random_settings(draw: random.Random, mode: str, folder: Path) -> dict[str, Any]:
    """Settings of the split and of the rows."""
    excluded = {"limit": draw.choice((0, 3, 10)), "drop_rows": draw.choice(("", "1", "2-6, 9"))}
    if draw.random() < 0.5:
        excluded["on_bad_rows"] = "stop"
    return {
        "split_mode": mode,
        "validation_fraction": draw.choice((0.0, 0.02, 0.1, 0.5, 0.9)),
        "validation_count": draw.choice((1, 3, 100)),
        "group_column": "who",
        "split_column": "side",
        "left_out_values": "test",
        "validation_source": str(folder / "more.jsonl"),
        "seed": draw.randrange(50),
        "deduplicate": draw.random() < 0.4,
        "drop_validation_leaks": draw.random() < 0.4,
        "on_bad_rows": "skip",
        **excluded,
    }


def run(folder: Path, settings: DatasetSettings, **changes: Any) -> DatasetValue | None:
    """What the Dataset step makes with other settings, if it is not refused."""
    with contextlib.suppress(StudioError):
        return made(folder, settings.model_copy(update=changes))
    return None


def made(folder: Path, settings: DatasetSettings) -> DatasetValue:
    """What the Dataset step makes."""
    folder.mkdir()
    return prepare_rows(make_context(folder, Recorder()), settings)


def trained_places(value: DatasetValue) -> list[tuple[str, int]]:
    """File and line of every training row, in order."""
    rows = open_rows(Path(value.path) / "train")
    return list(zip(rows["source"], rows["line"], strict=True))


def places_in_batches(rows: Rows) -> list[tuple[str, int]]:
    """File and line of every row that the view of the batches takes."""
    taken, items = TrainingRows(rows.settings), rows.rows(1, rows.count)
    for facts in facts_of("Train", Encoder(make_tiny_tokenizer(), LENGTH), items):
        taken.add(facts)
    return [(items[u.number - 1].source, items[u.number - 1].line) for u in taken.units()]


def tokens_of(value: DatasetValue) -> tuple[int, int]:
    """The tokens of the training rows, and how many of them are trained: the tiny tokenizer has one
    token per byte, and its template a start, a role, an end and a line end around each message."""
    rows = open_rows(Path(value.path) / "train")
    said = [[(m["role"], m["content"]) for m in row["messages"]] for row in rows]
    total = sum(len(role) + len(text) + 4 for row in said for role, text in row)
    return total, sum(len(text) + 2 for row in said for role, text in row if role == "assistant")


def count_of(report: DataReport, code: str) -> int:
    return next((f.count for f in report.findings if f.code == code), 0)


@pytest.mark.parametrize("small", [2000, 0], ids=["few rows", "as if many rows"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_the_report_counts_what_the_run_makes(
    seed: int, mode: str, small: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for large data: the table of rows does not read all of them first, and the report does not
    remember the contents of all of them."""
    monkeypatch.setattr(sides, "_SMALL", small)
    monkeypatch.setattr(sides, "MOST_COMPARED", small or 3)
    draw = random.Random(f"{seed} {mode} {small}")
    path = tmp_path / "rows.jsonl"
    random_rows(draw, path)
    random_rows(draw, tmp_path / "more.jsonl", draw.choice((0, 0, 100)))
    chosen = random_settings(draw, mode, tmp_path)
    settings = DatasetSettings(source=str(path), **chosen)
    try:
        value = made(tmp_path / "run", settings)
    except StudioError as error:
        assert_refusal_is_seen(error, path, chosen)
        return
    report = report_on(path, **chosen)
    assert (report.train_rows, report.validation_rows) == (value.train_rows, value.validation_rows)
    assert report.bad_rows == value.skipped
    used = value.train_rows + value.validation_rows
    assert report.left_out == report.rows - used - value.skipped
    assert (report.tokens_per_epoch, report.trained_tokens) == tokens_of(value)
    with open_window(settings, tmp_path, load_registry().variants["format"]) as window:
        assert places_in_batches(WindowRows("Dataset", window)) == trained_places(value)
    assert places_in_batches(PreparedRows(value, settings.seed)) == trained_places(value)

    alone = run(tmp_path / "alone", settings, deduplicate=True)
    moved = run(tmp_path / "moved", settings, drop_validation_leaks=True)
    if alone is not None and small:
        assert count_of(report, "duplicate") == used - alone.train_rows - alone.validation_rows
    if moved is not None:
        assert count_of(report, "leak") == value.validation_rows - moved.validation_rows


def assert_refusal_is_seen(error: StudioError, path: Path, settings: dict[str, Any]) -> None:
    """Where the run is refused, the report shows why."""
    report = report_on(path, **settings)
    if error.code not in REFUSED:
        assert settings["on_bad_rows"] == "stop"
        assert count_of(report, "bad_row")
    elif error.code in ("no_validation_rows", "one_group"):
        assert report.validation_rows == 0
    else:
        assert report.train_rows == 0
