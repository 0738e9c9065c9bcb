"""Invalid rows that the settings of the Dataset node exclude stop neither the check nor the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context

ASKED, REPLIED = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    "excluded",
    [
        {"drop_rows": "2"},
        {"limit": 1},
        {"split_mode": "column", "split_column": "side", "left_out_values": "test"},
    ],
)
def test_an_invalid_row_that_the_settings_exclude_stops_nothing(
    excluded: dict[str, Any], tmp_path: Path
) -> None:
    """The second row has no answer; without the settings it stops check and run."""
    good = [{"messages": [ASKED, REPLIED], "side": side} for side in ("train", "val")]
    rows = [good[0], {"messages": [ASKED], "side": "test"}, good[1]]
    (tmp_path / "rows.jsonl").write_bytes("".join(json.dumps(r) + "\n" for r in rows).encode())
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    plain = DatasetSettings(source="rows.jsonl", validation_fraction=0.0)
    assert [p.code for p in check(plain, context) if p.severity == "error"] == ["no_answer"]
    settings = plain.model_copy(update=excluded)
    assert [p for p in check(settings, context) if p.severity == "error"] == []
    value = prepare_rows(make_context(tmp_path, Recorder()), settings)
    assert value.train_rows + value.validation_rows == (1 if "limit" in excluded else 2)


@pytest.mark.parametrize(
    "excluded", [{"drop_rows": "2"}, {"drop_rows": "rows.jsonl:2"}, {"limit": 1}]
)
def test_a_broken_line_that_is_excluded_stops_nothing(
    excluded: dict[str, Any], tmp_path: Path
) -> None:
    good = json.dumps({"messages": [ASKED, REPLIED]})
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{{broken\n{good}\n", encoding="utf-8")
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    settings = DatasetSettings(source="rows.jsonl", validation_fraction=0.0, **excluded)
    assert [p for p in check(settings, context) if p.severity == "error"] == []
    value = prepare_rows(make_context(tmp_path, Recorder()), settings)
    assert value.train_rows == (1 if "limit" in excluded else 2)


def test_an_invalid_row_of_the_validation_file_can_be_excluded(tmp_path: Path) -> None:
    good = {"messages": [ASKED, REPLIED]}
    for name, rows in (("a.jsonl", [good, good]), ("b.jsonl", [{"messages": [ASKED]}, good])):
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    settings = DatasetSettings(
        source="a.jsonl", split_mode="file", validation_source="b.jsonl", drop_rows="b.jsonl:1"
    )
    assert [p for p in check(settings, context) if p.severity == "error"] == []
    value = prepare_rows(make_context(tmp_path, Recorder()), settings)
    assert (value.train_rows, value.validation_rows) == (2, 1)
