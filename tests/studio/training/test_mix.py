"""The Mix step: which rows of which data set, and what they keep of where they come from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.graph.node_type import CheckContext
from studio.node_settings.mix import MixSettings
from studio.nodes.mix import check
from studio.training.data.mix import mix_datasets
from studio.training.data.mix_counts import draws
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, dataset_value, make_context
from tests.studio.training.test_rows import prepared


def made(root: Path, name: str, count: int, **row: Any) -> DatasetValue:
    """A prepared data set of ``count`` rows, a fifth of them for validation."""
    rows = [{"prompt": f"{name} {i}", "completion": "yes", **row} for i in range(count)]
    (root / f"{name}.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    return prepared(root, step=name, source=f"{name}.jsonl", validation_fraction=0.2)


def mixed(
    root: Path,
    recorder: Recorder | None = None,
    step: str = "mix",
    settings: Any = None,
    **parts: DatasetValue,
) -> DatasetValue:
    context = make_context(root / step, recorder or Recorder())
    context.title = "Mix"
    inputs = {p: v.to_json() for p, v in parts.items()}
    return mix_datasets(context, inputs, MixSettings(**(settings or {})))


def rows_of(value: DatasetValue, side: str) -> list[tuple[str, int]]:
    import datasets

    rows = datasets.load_from_disk(str(Path(value.path) / side))
    return [(Path(s).stem, n) for s, n in zip(rows["source"], rows["line"], strict=True)]


def counted(value: DatasetValue, side: str) -> dict[str, int]:
    return dict(Counter(name for name, _ in rows_of(value, side)))


def test_all_rows_keep_their_side_file_and_line(tmp_path: Path) -> None:
    a, b = made(tmp_path, "one", 20), made(tmp_path, "two", 10)
    value = mixed(tmp_path, a=a, b=b)
    assert (value.train_rows, value.validation_rows) == (24, 6)
    for side in ("train", "validation"):
        assert rows_of(value, side) == rows_of(a, side) + rows_of(b, side)
    assert value.sources == [*a.sources, *b.sources]
    assert (value.format, value.shape) == ("prompt_completion", "messages")


def test_weights_by_fewer_rows(tmp_path: Path) -> None:
    a, b = made(tmp_path, "one", 100), made(tmp_path, "two", 25)
    settings = {"mode": "weights", "weight_a": 1.0, "weight_b": 1.0}
    value = mixed(tmp_path, settings=settings, a=a, b=b)
    assert counted(value, "train") == {"one": 20, "two": 20}
    assert counted(value, "validation") == {"one": 5, "two": 5}
    assert set(rows_of(value, "train")) <= set(rows_of(a, "train") + rows_of(b, "train"))
    again = mixed(tmp_path, step="again", settings=settings, a=a, b=b)
    other = mixed(tmp_path, step="other", settings={**settings, "seed": 1}, a=a, b=b)
    assert rows_of(again, "train") == rows_of(value, "train") != rows_of(other, "train")


def test_weights_by_repeating_rows_within_bounds(tmp_path: Path) -> None:
    a, b = made(tmp_path, "one", 100), made(tmp_path, "two", 10)
    recorder = Recorder()
    settings = {"mode": "weights", "weight_a": 2.0, "weight_b": 1.0, "fit": "repeat"}
    value = mixed(tmp_path, recorder, settings=settings, a=a, b=b)
    assert counted(value, "train") == {"one": 80, "two": 32}
    assert set(Counter(n for s, n in rows_of(value, "train") if s == "two").values()) == {4}
    assert counted(value, "validation") == {"one": 4, "two": 2}
    (notice,) = recorder.named("Notice")
    assert "dataset B would be repeated 5.0 times" in notice.get("sentence")
    settings["max_repeats"] = 10
    assert counted(mixed(tmp_path, step="more", settings=settings, a=a, b=b), "train")["two"] == 40


def test_numbers_of_rows(tmp_path: Path) -> None:
    a, b, c = made(tmp_path, "one", 50), made(tmp_path, "two", 10), made(tmp_path, "six", 10)
    recorder = Recorder()
    settings = {"mode": "counts", "count_a": 7, "count_c": 300}
    value = mixed(tmp_path, recorder, settings=settings, a=a, b=b, c=c)
    assert counted(value, "train") == {"one": 7, "two": 8, "six": 8}
    assert counted(value, "validation") == {"one": 10, "two": 2, "six": 2}
    assert "dataset C has 8 training rows, fewer than the requested 300" in recorder.named(
        "Notice"
    )[0].get("sentence")


def test_kinds_that_go_together_and_kinds_that_do_not(tmp_path: Path) -> None:
    chat = made(tmp_path, "chat", 10)
    (tmp_path / "prose.txt").write_text(
        "\n\n".join(f"text {i}" for i in range(10)), encoding="utf-8"
    )
    prose = prepared(tmp_path, step="prose", source="prose.txt", documents="paragraph")
    value = mixed(tmp_path, a=chat, b=prose)
    assert (value.format, value.shape, value.train_rows) == ("mix", "messages", 17)
    pairs = prose.model_copy(update={"shape": "preference"})
    with pytest.raises(StudioError) as caught:
        mixed(tmp_path, step="odd", a=chat, b=pairs)
    assert "A contains conversations, B contains preferences" in caught.value.sentence
    assert caught.value.hint


def test_data_with_fewer_columns(tmp_path: Path) -> None:
    """A data set that an earlier version or another program made."""
    old = dataset_value(tmp_path / "old", 5, 2)
    value = mixed(tmp_path, a=old, b=made(tmp_path, "new", 10))
    assert (value.train_rows, value.validation_rows) == (13, 4)


def test_no_row_and_no_weight(tmp_path: Path) -> None:
    context = CheckContext("mix", "Mix", tmp_path, inputs={"a": ("dataset", None)})
    (problem,) = check(MixSettings(mode="weights", weight_a=0.0), context)
    assert (problem.code, problem.field) == ("no_weight", "weight_a")
    assert not list(check(MixSettings(), context))
    a, b = made(tmp_path, "one", 10), made(tmp_path, "two", 10)
    with pytest.raises(StudioError, match="no training row"):
        mixed(tmp_path, settings={"mode": "weights", "weight_a": 0, "weight_b": 0}, a=a, b=b)


def test_a_data_set_without_rows_on_a_side_is_passed_over() -> None:
    settings = MixSettings(mode="weights", weight_a=3.0)
    found = draws({"a": 30, "b": 0, "c": 40}, settings, "validation")
    assert [(d.port, d.rows) for d in found] == [("a", 30), ("b", 0), ("c", 10)]
