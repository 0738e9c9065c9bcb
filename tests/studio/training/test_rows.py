"""The Dataset step: what is on disk afterwards, and how the split behaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from studio.data import canonical
from studio.errors import Stopped, StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.training.data.rows import prepare_rows
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context
from tests.timing import slowness


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
    recorder = Recorder()
    value = prepared(tmp_path, recorder, source="rows.jsonl", validation_fraction=0.2)
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
    (notice,) = recorder.named("Notice")
    assert "Prompt and completion" in notice.get("sentence")
    assert "prompt and completion" in notice.get("sentence")
    assert notice.get("level") == "info"
    assert recorder.named("Progress")[-1].get("done") == recorder.named("Progress")[-1].get("total")
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
        tmp_path,
        source="rows.jsonl",
        validation_fraction=0,
        format="prompt_completion",
        format_settings={"chat_template": False},
    )
    row = datasets.load_from_disk(str(Path(value.path) / "train"))[0]
    assert (row["messages"], row["prompt"], row["completion"]) == (None, "question 0", "answer 0")


def test_a_stop_ends_the_step(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 3000)
    recorder = Recorder()
    context = make_context(
        tmp_path / "one", recorder, stop=lambda: bool(recorder.named("Progress"))
    )
    context.project_dir = tmp_path
    with pytest.raises(Stopped):
        prepare_rows(context, DatasetSettings(source="rows.jsonl"))
    assert not context.artifacts


# ------------------------------------------------------------------ the split


def sided(value: DatasetValue) -> dict[int, str]:
    sides = dict.fromkeys(lines_of(value, "train"), "train")
    if value.validation_rows:
        sides |= dict.fromkeys(lines_of(value, "validation"), "validation")
    return sides


def write_wide(path: Path, count: int) -> None:
    kinds = ("train", "val", "train", "Test", "train")
    rows = [
        {"prompt": f"q{i}", "completion": f"a{i}", "group": f"g{i * 7 % 97}", "split": kinds[i % 5]}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.1},
        {"validation_fraction": 0.37, "seed": 5},
        {"validation_fraction": 0.7, "seed": 2},
        {"split_mode": "group", "group_column": "group", "validation_fraction": 0.2},
        {"split_mode": "column", "split_column": "split"},
    ],
)
def test_appended_rows_move_no_row(settings: dict[str, Any], tmp_path: Path) -> None:
    options = {"source": "rows.jsonl", **settings}
    write_wide(tmp_path / "rows.jsonl", 1000)
    before = sided(prepared(tmp_path, step="a", **options))
    write_wide(tmp_path / "rows.jsonl", 1500)
    after = sided(prepared(tmp_path, step="b", **options))
    assert {n: s for n, s in after.items() if n <= 1000} == before
    assert set(before.values()) == {"train", "validation"}


def test_by_number_appended_rows_take_nothing_from_training(tmp_path: Path) -> None:
    options = {"source": "rows.jsonl", "split_mode": "count", "validation_count": 80}
    write_wide(tmp_path / "rows.jsonl", 1000)
    before = sided(prepared(tmp_path, step="a", **options))
    write_wide(tmp_path / "rows.jsonl", 1500)
    after = sided(prepared(tmp_path, step="b", **options))
    assert (
        list(before.values()).count("validation") == list(after.values()).count("validation") == 80
    )
    assert all(after[n] == "train" for n, side in before.items() if side == "train")
    value = prepared(tmp_path, step="c", source="rows.jsonl", split_mode="count", limit=5)
    assert (value.train_rows, value.validation_rows) == (1, 4)


def test_a_group_is_on_one_side_and_a_share_of_groups_is_held_out(tmp_path: Path) -> None:
    write_wide(tmp_path / "rows.jsonl", 970)
    value = prepared(
        tmp_path,
        source="rows.jsonl",
        split_mode="group",
        group_column="group",
        validation_fraction=0.2,
    )
    groups: dict[str, set[int]] = {"train": set(), "validation": set()}
    for line, side in sided(value).items():
        groups[side].add((line - 1) * 7 % 97)
    assert not groups["train"] & groups["validation"]
    assert len(groups["validation"]) == pytest.approx(0.2 * 97, abs=1)
    one = {"split_mode": "group", "group_column": "same"}
    (tmp_path / "same.jsonl").write_text('{"text": "a", "same": 1}\n' * 3, encoding="utf-8")
    with pytest.raises(StudioError, match="all rows have the same value"):
        prepared(tmp_path, step="same", source="same.jsonl", **one)


def test_a_column_says_the_side_and_test_rows_are_left_out(tmp_path: Path) -> None:
    write_wide(tmp_path / "rows.jsonl", 20)
    recorder = Recorder()
    value = prepared(tmp_path, recorder, source="rows.jsonl", split_mode="column")
    assert lines_of(value, "validation") == [2, 7, 12, 17]
    assert value.train_rows == 12
    assert "4 rows excluded by the split column." in sentences(recorder)
    with pytest.raises(
        StudioError, match=r"line 2 of rows\.jsonl has “val” in the split column"
    ) as bad:
        prepared(
            tmp_path, step="b", source="rows.jsonl", split_mode="column", validation_values="dev"
        )
    assert bad.value.field == "split_column"
    with pytest.raises(StudioError, match="has no value in the column “side”"):
        prepared(tmp_path, step="c", source="rows.jsonl", split_mode="column", split_column="side")


def test_validation_rows_from_files_of_their_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 10)
    write_rows(tmp_path / "held.jsonl", 4)
    value = prepared(
        tmp_path, source="rows.jsonl", split_mode="file", validation_source="held.jsonl", limit=6
    )
    assert (value.train_rows, value.validation_rows) == (6, 4)
    assert [Path(s).name for s in value.sources] == ["rows.jsonl", "held.jsonl"]
    with pytest.raises(StudioError, match="no validation file is chosen") as caught:
        prepared(tmp_path, step="b", source="rows.jsonl", split_mode="file")
    assert caught.value.field == "validation_source"


# ------------------------------------------------------------------ rows that are left out


def sentences(recorder: Recorder) -> list[str]:
    return [str(e.get("sentence")) for e in recorder.named("Notice")]


def test_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    good = '{"prompt": "a", "completion": "b"}\n'
    bad = ["{broken\n", '{"prompt": "a"}\n', '{"prompt": "", "completion": "b"}\n', "[1]\n"] * 2
    (tmp_path / "rows.jsonl").write_text(
        good * 3 + "".join(b + good for b in bad), encoding="utf-8"
    )
    recorder = Recorder()
    options = {"source": "rows.jsonl", "validation_fraction": 0}
    value = prepared(tmp_path, recorder, on_bad_rows="skip", **options)
    assert (value.train_rows, value.skipped) == (11, 8)
    (notice,) = [s for s in sentences(recorder) if "invalid rows" in s]
    assert notice.startswith("8 invalid rows were skipped: rows.jsonl:4, rows.jsonl:6,")
    assert "and 3 more. First error: line 4 of rows.jsonl is not valid JSON" in notice
    with pytest.raises(StudioError, match=r"line 4 of rows\.jsonl is not valid JSON"):
        prepared(tmp_path, step="b", **options)


def test_a_bad_row_does_not_move_the_others(tmp_path: Path) -> None:
    rows = [f'{{"prompt": "q{i}", "completion": "a"}}' for i in range(100)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    whole = sided(prepared(tmp_path, step="a", source="rows.jsonl"))
    rows[10] = "{"
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    less = sided(
        prepared(tmp_path, step="b", source="rows.jsonl", on_bad_rows="skip", drop_rows="20")
    )
    assert less == {n: s for n, s in whole.items() if n not in (11, 20)}


def test_nothing_but_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "completion": null}\n' * 3, encoding="utf-8"
    )
    with pytest.raises(StudioError, match=r"line 1 of rows\.jsonl has no value in column"):
        prepared(tmp_path, source="rows.jsonl", on_bad_rows="skip")


def test_rows_that_are_named_are_left_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 30)
    recorder = Recorder()
    value = prepared(
        tmp_path,
        recorder,
        source="rows.jsonl",
        split_mode="none",
        drop_rows="2; 5-7, rows.jsonl:30, 99",
    )
    assert lines_of(value, "train") == [n for n in range(1, 30) if n not in (2, 5, 6, 7)]
    assert "5 rows excluded by number." in sentences(recorder)
    assert "Some of the excluded rows do not exist: 99." in sentences(recorder)
    with pytest.raises(StudioError, match="“seven” is neither a row number") as caught:
        prepared(tmp_path, step="b", source="rows.jsonl", drop_rows="1, seven")
    assert caught.value.field == "drop_rows"


def test_duplicates_and_leaks(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i % 40}", "completion": "a", "note": i} for i in range(100)]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    recorder = Recorder()
    value = prepared(tmp_path, recorder, source="rows.jsonl", deduplicate=True)
    assert sorted(sided(value)) == list(range(1, 41))
    assert "60 duplicates were removed." in sentences(recorder)
    leaky = sided(prepared(tmp_path, step="b", source="rows.jsonl", validation_fraction=0.2))
    recorder = Recorder()
    value = prepared(
        tmp_path,
        recorder,
        step="c",
        source="rows.jsonl",
        validation_fraction=0.2,
        drop_validation_leaks=True,
    )
    mended = sided(value)
    trained = {(n - 1) % 40 for n, side in leaky.items() if side == "train"}
    for line, side in leaky.items():
        leaks = side == "validation" and (line - 1) % 40 in trained
        assert mended[line] == ("train" if leaks else side)
    moved = sum(leaky[n] != mended[n] for n in leaky)
    assert (
        f"{moved} validation rows were moved to training, which contains the same rows."
        in sentences(recorder)
    )


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"text": "a"}, "text"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "messages",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"prompt": "a", "completion": "b", "label": True}, "label"),
    ],
)
def test_the_shape_of_the_rows_is_told(row: dict[str, Any], shape: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 3, encoding="utf-8")
    assert prepared(tmp_path, source="rows.jsonl").shape == shape


@pytest.mark.slow(seconds=8)
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the rows, nearly the same peak; progress and a stop never wait long."""
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[3]
    peaks = []
    for count in (20_000, 80_000):
        source, folder = tmp_path / f"{count}.jsonl", tmp_path / f"made-{count}"
        row = {"prompt": "question " * 60, "completion": "answer " * 60}
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({**row, "id": i}) + "\n" for i in range(count))
        done = subprocess.run(
            [sys.executable, root / "benchmarks" / "data.py", "step", source, folder, "0"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        assert figures["silence_cpu_s"] < 2.0 * slowness()
        peaks.append(figures["peak_mb"] - figures["start_mb"])
    assert peaks[1] < peaks[0] + 30  # 60 MB more were read and written
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "data.py", "step", source, tmp_path / "stop", "0.5"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["stop_cpu_s"] < 2.0 * slowness()


def test_a_row_with_a_key_twice_is_told_in_the_singular(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", 4)
    twice = '{"prompt": "a", "completion": "b", "completion": "c"}\n'
    path.write_text(twice + path.read_text(encoding="utf-8"), encoding="utf-8")
    recorder = Recorder()
    prepared(tmp_path, recorder, source="rows.jsonl")
    wanted = "1 row contains a key twice; the last value is used (first: line 1 of rows.jsonl)."
    assert wanted in sentences(recorder)
