"""The Dataset step: what is on disk afterwards, and how the split behaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped
from studio.nodes.dataset import DatasetSettings
from studio.training import canonical
from studio.training.rows import prepare_rows
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context


def write_rows(path: Path, count: int) -> Path:
    rows = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def prepared(
    root: Path, recorder: Recorder | None = None, step: str = "one", **settings: Any
) -> DatasetValue:
    """Run the step in a folder of its own."""
    context = make_context(root / step, recorder or Recorder())
    context.project_dir, context.title = root, "Dataset"
    return prepare_rows(context, DatasetSettings(**settings))


def lines_of(value: DatasetValue, split: str) -> list[int]:
    import datasets

    return list(datasets.load_from_disk(str(Path(value.path) / split))["line"])


def test_rows_are_written_in_one_shape(tmp_path: Path) -> None:
    import datasets

    path = write_rows(tmp_path / "rows.jsonl", 10)
    told = Recorder()
    value = prepared(tmp_path, told, source="rows.jsonl", validation_fraction=0.2)
    assert (value.train_rows, value.validation_rows) == (8, 2)
    assert value.format == "prompt_completion"
    assert value.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert value.sources == [str(path)]
    first = datasets.load_from_disk(str(Path(value.path) / "train"))[0]
    number = first["line"] - 1
    assert canonical.messages_of(first) == [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": f"answer {number}"},
    ]
    assert (first["text"], first["source"]) == (None, str(path))
    (notice,) = told.named("Notice")
    assert "Prompt and completion" in notice.get("sentence")
    assert "prompt and completion" in notice.get("sentence")
    assert notice.get("level") == "info"
    assert told.named("Progress")[-1].get("done") == told.named("Progress")[-1].get("total")
    assert sorted(p.name for p in Path(value.path).iterdir() if p.is_dir()) == [
        "train",
        "validation",
    ]


def test_no_row_is_lost_or_in_both(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 1201)
    value = prepared(tmp_path, source="rows.jsonl", validation_fraction=0.1)
    train, held_out = lines_of(value, "train"), lines_of(value, "validation")
    assert len(held_out) == 120
    assert sorted(train + held_out) == list(range(1, 1202))
    assert train == sorted(train)


@pytest.mark.parametrize(
    ("count", "fraction", "wanted"),
    [(2, 0.01, 1), (2, 0.9, 1), (10, 0.9, 9), (10, 0.0, 0), (1, 0.0, 0), (50, 0.02, 1)],
)
def test_each_side_of_the_split_has_a_row(
    count: int, fraction: float, wanted: int, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", count)
    value = prepared(tmp_path, source="rows.jsonl", validation_fraction=fraction)
    assert (value.train_rows, value.validation_rows) == (count - wanted, wanted)
    assert (Path(value.path) / "validation").exists() == (wanted > 0)


def test_the_seed_decides_and_appended_rows_hardly_move_the_others(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 200)
    options = {"source": "rows.jsonl", "validation_fraction": 0.1}
    once = set(lines_of(prepared(tmp_path, step="a", **options), "validation"))
    again = set(lines_of(prepared(tmp_path, step="b", **options), "validation"))
    other = set(lines_of(prepared(tmp_path, step="c", seed=1, **options), "validation"))
    assert once == again != other
    write_rows(tmp_path / "rows.jsonl", 210)
    longer = set(lines_of(prepared(tmp_path, step="d", **options), "validation"))
    assert len(once - longer) <= 3


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 900)
    value = prepared(tmp_path, source="rows.jsonl", validation_fraction=0, limit=7)
    assert lines_of(value, "train") == [1, 2, 3, 4, 5, 6, 7]


def test_own_settings_of_the_format(tmp_path: Path) -> None:
    import datasets

    write_rows(tmp_path / "rows.jsonl", 3)
    value = prepared(
        tmp_path, source="rows.jsonl", validation_fraction=0, format="prompt_completion",
        format_settings={"chat_template": False},
    )  # fmt: skip
    row = datasets.load_from_disk(str(Path(value.path) / "train"))[0]
    assert (row["messages"], row["prompt"], row["completion"]) == (None, "question 0", "answer 0")


def test_a_stop_ends_the_step(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3000)
    told = Recorder()
    context = make_context(tmp_path / "one", told, stop=lambda: bool(told.named("Progress")))
    context.project_dir = tmp_path
    with pytest.raises(Stopped):
        prepare_rows(context, DatasetSettings(source="rows.jsonl"))
    assert not context.artifacts
