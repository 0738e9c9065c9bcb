"""Folders that name their splits: their rows are trained, validated, or excluded, and this is stated.

Step, quick check, table and report are asked about the same folders and must agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.splits import NoSuchPart, by_card, by_names
from studio.data.sources import sources_of
from studio.data.window import open_window
from studio.errors import Problem, StudioError
from studio.graph.facts import facts_of, short_line
from studio.graph.graph import Graph, Node
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.train import TrainSettings
from studio.nodes.dataset import check
from studio.runs.plan import compile_plan
from studio.training.data.by_number import WindowRows
from tests.studio.training.steps import Recorder
from tests.studio.training.test_report import report_on
from tests.studio.training.test_rows import lines_of, prepared

Layout = Mapping[str, int]
CARD = """---
license: mit
configs:
- config_name: {0}
  data_files:
  - split: train
    path: rows/{0}-a*.jsonl
  - split: validation
    path: rows/{0}-b.jsonl
  - split: test
    path: "rows/{0}-c.jsonl"
- config_name: other
  data_files: rows/other-*.jsonl
tags:
- made up
---
# Rows
"""


def write(root: Path, layout: Layout, columns: tuple[str, str] = ("prompt", "completion")) -> Path:
    """A folder of files with so many rows; each row names its file."""
    for name, count in layout.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            dict(zip(columns, (f"{name} question {n}?", f"It is {n}."), strict=True))
            for n in range(count)
        ]
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        elif path.suffix == ".csv":
            lines = [",".join(columns), *(",".join(row.values()) for row in rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet

            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_bytes(b"%PDF" * count)
    return root


def problems(root: Path, **settings: Any) -> list[Problem]:
    context = CheckContext("data", "Dataset", root, variants=load_registry().variants)
    return list(check(DatasetSettings(**settings), context))


def step_rows(root: Path, **settings: Any) -> tuple[list[str], list[str], list[str]]:
    """The files of the training and of the validation rows, and the notices of the step."""
    import datasets

    told = Recorder()
    value = prepared(root, told, step=f"run-{len(list(root.glob('run-*')))}", **settings)
    sides = []
    for side in ("train", "validation"):
        folder = Path(value.path) / side
        found = datasets.load_from_disk(str(folder))["source"] if folder.exists() else []
        sides.append([os.path.relpath(s, root / "set") for s in found])
    return sides[0], sides[1], [str(e.get("sentence")) for e in told.named("Notice")]


def shown_rows(root: Path, **settings: Any) -> tuple[list[str], list[str], tuple[str, ...]]:
    """The same, as the tables show it."""
    with open_window(DatasetSettings(**settings), root, load_registry().variants["format"]) as w:
        rows = WindowRows("Dataset", w)
        items = rows.rows(1, rows.count)
    sides = [
        [os.path.relpath(i.source, root / "set") for i in items if i.split == side]
        for side in ("train", "validation")
    ]
    return sides[0], sides[1], rows.notes


LAYOUTS: list[tuple[str, Layout, Layout, Layout, Layout]] = [
    # as it lies in the folder; training, validation, excluded
    (
        "files",
        {"test.jsonl": 12, "train.jsonl": 12, "validation.jsonl": 12},
        {"train.jsonl": 12},
        {"validation.jsonl": 12},
        {"test.jsonl": 12},
    ),
    (
        "folders",
        {"data/train/a.jsonl": 4, "data/train/b.jsonl": 3, "data/val/c.jsonl": 2},
        {"data/train/a.jsonl": 4, "data/train/b.jsonl": 3},
        {"data/val/c.jsonl": 2},
        {},
    ),
    (
        "shards",
        {
            "data/train-00000-of-00002.parquet": 5,
            "data/train-00001-of-00002.parquet": 4,
            "data/dev-00000-of-00001.parquet": 3,
            "data/test-00000-of-00001.parquet": 6,
        },
        {"data/train-00000-of-00002.parquet": 5, "data/train-00001-of-00002.parquet": 4},
        {"data/dev-00000-of-00001.parquet": 3},
        {"data/test-00000-of-00001.parquet": 6},
    ),
    (
        "prefixes",
        {"trains_train.csv": 5, "trains_eval.csv": 2, "trains_testing.csv": 3},
        {"trains_train.csv": 5},
        {"trains_eval.csv": 2},
        {"trains_testing.csv": 3},
    ),
    (
        "capitals",
        {"Training.CSV": 5, "VALID.csv": 2},
        {"Training.CSV": 5},
        {"VALID.csv": 2},
        {},
    ),
    (
        "versions",
        {"train-v2.0.jsonl": 5, "dev-v2.0.jsonl": 2},
        {"train-v2.0.jsonl": 5},
        {"dev-v2.0.jsonl": 2},
        {},
    ),
    (
        "rest",
        {"chats.jsonl": 5, "more.jsonl": 4, "validation.jsonl": 2, "test_data.jsonl": 3},
        {"chats.jsonl": 5, "more.jsonl": 4},
        {"validation.jsonl": 2},
        {"test_data.jsonl": 3},
    ),
    (
        "several",
        {
            "train-00000-of-00001.parquet": 6,
            "validation_matched-00000-of-00001.parquet": 2,
            "validation_other-00000-of-00001.parquet": 3,
            "test_matched-00000-of-00001.parquet": 1,
        },
        {"train-00000-of-00001.parquet": 6},
        {
            "validation_matched-00000-of-00001.parquet": 2,
            "validation_other-00000-of-00001.parquet": 3,
        },
        {"test_matched-00000-of-00001.parquet": 1},
    ),
]


def expected(layout: Layout) -> list[str]:
    return [name for name, count in layout.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("layout", "train", "validation", "test"),
    [case[1:] for case in LAYOUTS],
    ids=[case[0] for case in LAYOUTS],
)
def test_step_table_report_and_check_agree(
    layout: Layout, train: Layout, validation: Layout, test: Layout, tmp_path: Path
) -> None:
    if "Training.CSV" in layout:  # the writer goes by the suffix
        write(tmp_path / "set", {"t.csv": 5, "VALID.csv": 2})
        (tmp_path / "set" / "t.csv").rename(tmp_path / "set" / "Training.CSV")
    else:
        write(tmp_path / "set", layout)
    made = step_rows(tmp_path, source="set")
    assert sorted(made[0]) == sorted(expected(train))
    assert sorted(made[1]) == sorted(expected(validation))
    shown = shown_rows(tmp_path, source="set")
    assert shown[:2] == made[:2]
    report = report_on(tmp_path / "set", validation_fraction=0.1)
    assert (report.train_rows, report.validation_rows) == (len(made[0]), len(made[1]))
    found = problems(tmp_path, source="set")
    assert [p.severity for p in found] == ["info"] * len(found)
    (notice,) = [s for s in made[2] if "split by their names" in s]
    assert f"for training ({len(made[0])} rows)" in notice
    assert f"for validation ({len(made[1])} rows)" in notice
    assert notice in report.notes
    assert notice in shown[2]
    assert "split_by_name" in [p.code for p in found]
    left_out = [s for s in made[2] if "neither for training nor for validation" in s]
    assert bool(left_out) == bool(test) == ("test_left_out" in [p.code for p in found])
    if test:
        count = sum(test.values())
        assert f"({count} row{'' if count == 1 else 's'})" in left_out[0]
        assert next(iter(test)).rpartition("/")[2] in left_out[0]
        assert left_out[0] in report.notes
        assert left_out[0] in shown[2]


def test_a_share_is_held_out_where_no_file_is_for_validation(tmp_path: Path) -> None:
    write(tmp_path / "set", {"train.jsonl": 40, "test.jsonl": 7})
    train, validation, notices = step_rows(tmp_path, source="set", validation_fraction=0.25)
    assert set(train) == set(validation) == {"train.jsonl"}
    assert (len(train), len(validation)) == (30, 10)
    (notice,) = [s for s in notices if "test.jsonl (7 rows) is excluded" in s]
    assert notice.endswith("25 % of the training rows are held out for validation.")
    shown = shown_rows(tmp_path, source="set", validation_fraction=0.25)
    assert shown[:2] == (train, validation)


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({"split_mode": "share", "validation_fraction": 0.25}, (21, 7)),
        ({"split_mode": "count", "validation_count": 5}, (23, 5)),
        ({"split_mode": "none"}, (28, 0)),
    ],
)
def test_another_choice_splits_training_and_validation_files_together(
    settings: dict[str, Any], numbers: tuple[int, int], tmp_path: Path
) -> None:
    write(tmp_path / "set", {"test.jsonl": 9, "train.jsonl": 20, "validation.jsonl": 8})
    train, validation, notices = step_rows(tmp_path, source="set", **settings)
    assert (len(train), len(validation)) == numbers
    assert set(train) == {"train.jsonl", "validation.jsonl"}
    assert shown_rows(tmp_path, source="set", **settings)[:2] == (train, validation)
    codes = {p.code: p for p in problems(tmp_path, source="set", **settings)}
    assert set(codes) == {"split_not_by_name", "test_left_out"}
    assert codes["split_not_by_name"].severity == "warning"
    assert "Automatic" in codes["split_not_by_name"].hint
    assert any("validation.jsonl is named validation, but its rows" in s for s in notices)
    assert any("test.jsonl (9 rows) is excluded" in s for s in notices)


def test_a_validation_file_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "set", {"test.jsonl": 3, "train.jsonl": 9, "valid.jsonl": 4, "held.jsonl": 5})
    settings = {"source": "set", "split_mode": "file"}
    held = {**settings, "validation_source": "set/held.jsonl"}
    train, validation, notices = step_rows(tmp_path, **held)
    assert (set(train), len(train)) == ({"train.jsonl"}, 9)
    assert (set(validation), len(validation)) == ({"held.jsonl"}, 5)
    assert any("valid.jsonl is not trained, because the validation rows" in s for s in notices)
    of_folder = step_rows(tmp_path, **{**settings, "validation_source": "set"})
    assert set(of_folder[1]) == {"valid.jsonl"}
    (tmp_path / "set" / "valid.jsonl").unlink()
    (found,) = problems(tmp_path, **{**settings, "validation_source": "set"})
    assert (found.code, found.field) == ("no_validation_files", "validation_source")


@pytest.mark.parametrize("mode", ["fraction", "share", "none"])
def test_a_folder_of_test_files_is_refused_with_what_to_do(mode: str, tmp_path: Path) -> None:
    write(tmp_path / "set", {"test-00000-of-00002.parquet": 3, "test-00001-of-00002.parquet": 3})
    (found,) = problems(tmp_path, source="set", split_mode=mode)
    assert (found.severity, found.code, found.field) == ("error", "no_train_files", "source")
    assert "all its files are named test (2 files)" in found.sentence
    assert "choose the file itself" in found.hint
    with pytest.raises(StudioError, match="named test"):
        step_rows(tmp_path, source="set", split_mode=mode)
    for source in ("set/*.parquet", "set/test-00000-of-00002.parquet"):  # chosen on purpose
        train, validation, _ = step_rows(tmp_path, source=source, split_mode="none")
        assert len(train) in (3, 6)
        assert not validation


def test_a_pattern_over_splits_is_split_like_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "set", {"test.jsonl": 3, "train.jsonl": 9, "val.jsonl": 4})
    train, validation, _ = step_rows(tmp_path, source="set/*.jsonl")
    assert (set(train), set(validation)) == ({"train.jsonl"}, {"val.jsonl"})


def test_each_file_of_a_list_is_used_and_a_test_file_among_them_is_stated(tmp_path: Path) -> None:
    write(tmp_path / "set", {"test.jsonl": 3, "train.jsonl": 9})
    source = "set/train.jsonl; set/test.jsonl"
    train, _, notices = step_rows(tmp_path, source=source, split_mode="none")
    assert set(train) == {"train.jsonl", "test.jsonl"}
    (found,) = problems(tmp_path, source=source, split_mode="none")
    assert (found.severity, found.code) == ("warning", "split_listed")
    assert any(s.startswith("test.jsonl is among the files for training") for s in notices)


ORDINARY = (
    "train_data_of_trains.csv",
    "latest.jsonl",
    "contest.csv",
    "developers.jsonl",
    "evaluate.csv",
    "device.jsonl",
    "trainer.jsonl",
    "values/interval.csv",
    "attest/valley.jsonl",
)


def test_names_that_only_look_like_splits_are_not_taken_for_one(tmp_path: Path) -> None:
    found = by_names(ORDINARY)
    assert found.train == ORDINARY
    assert not found.named
    csv = {name: 4 for name in ORDINARY if name.endswith("csv")}
    write(tmp_path / "set", csv)
    train, validation, _ = step_rows(tmp_path, source="set")
    assert sorted(train + validation) == sorted(expected(csv))
    assert not problems(tmp_path, source="set")


def test_a_name_with_further_words_needs_its_counterpart(tmp_path: Path) -> None:
    assert by_names(["squad_train.json", "squad_dev.json"]).validation == ("squad_dev.json",)
    assert by_names(["chats.jsonl", "chats_test.jsonl"]).test == ("chats_test.jsonl",)
    assert by_names(["train_of_trains.csv", "test_of_trains.csv"]).test == ("test_of_trains.csv",)


HELD_OUT: list[tuple[str, list[str], list[str], list[str]]] = [
    # all names; of them for validation, and excluded as test
    ("one word more", ["chats.jsonl", "support_test.jsonl"], [], ["support_test.jsonl"]),
    ("several tests", ["train.csv", "public_test.csv", "private_test.csv"], [], ["p*_test.csv"]),
    ("two kinds", ["train.json", "dev_matched.json", "dev_other.json"], ["dev_*"], []),
    ("unseen", ["train.json", "test_seen.json", "test_unseen.json"], [], ["test_*"]),
    ("in the middle", ["sft_train_en.json", "sft_test_en.json"], [], ["sft_test_en.json"]),
    ("with a filler", ["my_train_set.csv", "mmlu_test_set.csv"], [], ["mmlu_test_set.csv"]),
    ("abbreviated", ["trn.jsonl", "vld.jsonl", "tst.jsonl"], ["vld.jsonl"], ["tst.jsonl"]),
    ("held out", ["rows.jsonl", "held-out.jsonl"], ["held-out.jsonl"], []),
    ("holdout", ["train.jsonl", "HoldOut.jsonl"], ["HoldOut.jsonl"], []),
    ("tests folder", ["train/a.jsonl", "tests/a.jsonl"], [], ["tests/a.jsonl"]),
    ("blind", ["data/a.parquet", "data/blind-test.parquet"], [], ["data/blind-test.parquet"]),
]


@pytest.mark.parametrize(
    ("names", "validation", "test"), [c[1:] for c in HELD_OUT], ids=[c[0] for c in HELD_OUT]
)
def test_held_out_files_are_never_trained(
    names: list[str], validation: list[str], test: list[str]
) -> None:
    found = by_names(names)

    def matching(patterns: list[str]) -> set[str]:
        return {n for n in names for p in patterns if fnmatch(n, p)}

    assert set(found.validation) == matching(validation)
    assert set(found.test) == matching(test)
    assert set(found.train) == {*names} - matching([*validation, *test])


def test_a_name_that_only_ends_with_a_split_is_stated(tmp_path: Path) -> None:
    write(tmp_path / "set", {"chats.jsonl": 9, "support_test.jsonl": 3})
    train, validation, notices = step_rows(tmp_path, source="set")
    assert set(train + validation) == {"chats.jsonl"}
    assert shown_rows(tmp_path, source="set")[:2] == (train, validation)
    assert any(s.startswith("support_test.jsonl is treated as a test split") for s in notices)
    found = {p.code: p for p in problems(tmp_path, source="set")}
    assert found["split_doubtful"].severity == "warning"
    assert "rename" in found["split_doubtful"].hint
    (tmp_path / "set" / "chats.jsonl").unlink()  # nothing else to train on
    train, _, notices = step_rows(tmp_path, source="set", split_mode="none")
    assert set(train) == {"support_test.jsonl"}
    assert any(s.startswith("support_test.jsonl is used for training") for s in notices)


def test_a_file_beside_training_files_is_trained_and_stated(tmp_path: Path) -> None:
    write(tmp_path / "set", {"train.jsonl": 5, "gold.jsonl": 3})
    train, _, notices = step_rows(tmp_path, source="set", split_mode="none")
    assert set(train) == {"train.jsonl", "gold.jsonl"}
    assert any(s.startswith("gold.jsonl is used for training") for s in notices)
    assert "split_joined" in [p.code for p in problems(tmp_path, source="set")]


def test_a_file_of_no_split_beside_splits_is_left_out_and_stated(tmp_path: Path) -> None:
    write(tmp_path / "set", {"train.jsonl": 9, "valid.jsonl": 4, "sample_submission.jsonl": 2})
    train, validation, notices = step_rows(tmp_path, source="set")
    assert (set(train), set(validation)) == ({"train.jsonl"}, {"valid.jsonl"})
    assert any(s.startswith("sample_submission.jsonl is not trained") for s in notices)
    (found,) = [p for p in problems(tmp_path, source="set") if p.severity == "warning"]
    assert "sample_submission.jsonl" in found.sentence


# ------------------------------------------------------------------ configurations


TWO = {"en/train.jsonl": 6, "en/dev.jsonl": 2, "de/train.jsonl": 5, "de/dev.jsonl": 1}


def test_several_configurations_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "set", TWO)
    (found,) = problems(tmp_path, source="set")
    assert (found.severity, found.code) == ("error", "several_configurations")
    assert found.field == "hub_config"
    assert "de, en" in found.sentence
    assert "Configuration" in found.hint
    with pytest.raises(StudioError, match="several configurations"):
        step_rows(tmp_path, source="set")
    train, validation, notices = step_rows(tmp_path, source="set", hub_config="de")
    assert (set(train), set(validation)) == ({"de/train.jsonl"}, {"de/dev.jsonl"})
    assert shown_rows(tmp_path, source="set", hub_config="de")[:2] == (train, validation)
    assert any("de is used, en is not" in s for s in notices)
    both = step_rows(tmp_path, source="set", hub_config="*")
    assert (len(both[0]), len(both[1])) == (11, 3)
    assert step_rows(tmp_path, source="set", hub_config="en, de")[:2] == both[:2]
    (wrong,) = problems(tmp_path, source="set", hub_config="fr")
    assert (wrong.code, wrong.field) == ("no_such_configuration", "hub_config")
    assert "no configuration “fr”; it has: de, en" in wrong.sentence


def test_a_sub_folder_can_be_selected_as_a_configuration(tmp_path: Path) -> None:
    write(tmp_path / "set", {"en/a.jsonl": 4, "de/b.jsonl": 3})
    assert len(step_rows(tmp_path, source="set", split_mode="none")[0]) == 7
    chosen = step_rows(tmp_path, source="set", split_mode="none", hub_config="de")
    assert set(chosen[0]) == {"de/b.jsonl"}


def test_the_configurations_of_a_dataset_card(tmp_path: Path) -> None:
    rows = {"main-a1": 4, "main-a2": 3, "main-b": 2, "main-c": 5, "other-a": 6}
    write(tmp_path / "set", {f"rows/{name}.jsonl": count for name, count in rows.items()})
    card = tmp_path / "set" / "README.md"
    card.write_text(CARD.format("main"), encoding="utf-8")
    (found,) = problems(tmp_path, source="set")
    assert (found.code, found.field) == ("several_configurations", "hub_config")
    assert "main, other" in found.sentence
    settings = {"source": "set", "hub_config": "main"}
    train, validation, notices = step_rows(tmp_path, **settings)
    assert set(train) == {"rows/main-a1.jsonl", "rows/main-a2.jsonl"}
    assert set(validation) == {"rows/main-b.jsonl"}
    assert any("main-c.jsonl (5 rows) is excluded" in s for s in notices)
    assert shown_rows(tmp_path, **settings)[:2] == (train, validation)
    card.write_text(CARD.format("default"), encoding="utf-8")
    for path in (tmp_path / "set" / "rows").glob("main-*"):
        path.rename(path.with_name(path.name.replace("main", "default")))
    train, _, notices = step_rows(tmp_path, source="set")
    assert set(train) == {"rows/default-a1.jsonl", "rows/default-a2.jsonl"}
    assert any("default is used, other is not" in s for s in notices)
    (tmp_path / "set" / "rows" / "default-b.jsonl").unlink()
    codes = [p.code for p in problems(tmp_path, source="set")]
    assert "split_missing" in codes


def test_several_training_splits_of_a_card_are_asked_for(tmp_path: Path) -> None:
    names = ("train_sft", "train_gen", "test_sft", "test_gen")
    write(tmp_path / "set", {f"rows/{name}.jsonl": 3 + n for n, name in enumerate(names)})
    files = "".join(f"  - split: {n}\n    path: rows/{n}.jsonl\n" for n in names)
    (tmp_path / "set" / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n", encoding="utf-8"
    )
    (found,) = problems(tmp_path, source="set")
    assert (found.code, found.field) == ("several_splits", "hub_split")
    assert "train_sft, train_gen" in found.sentence
    train, _, notices = step_rows(tmp_path, source="set", hub_split="train_gen")
    assert set(train) == {"rows/train_gen.jsonl"}
    assert any("test_sft.jsonl and test_gen.jsonl (11 rows) are excluded" in s for s in notices)


def test_a_damaged_card_leaves_the_names(tmp_path: Path) -> None:
    write(tmp_path / "set", {"train.jsonl": 4, "dev.jsonl": 2})
    for text in ("---\nconfigs: [\n---\n", "---\nconfigs: 5\n---\n", "# Rows\n", "---\n"):
        (tmp_path / "set" / "README.md").write_text(text, encoding="utf-8")
        found = sources_of(DatasetSettings(source="set"), tmp_path)
        assert [p.name for p in (*found.train, *found.validation)] == ["train.jsonl", "dev.jsonl"]


def card_of(root: Path, train: str, test: str = "c.jsonl") -> None:
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    lines += [
        f'  - split: {s}\n    path: "{p}"' for s, p in (("train", train), ("test", test)) if p
    ]
    (root / "set" / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def test_patterns_of_a_card_and_files_that_it_does_not_list(tmp_path: Path) -> None:
    write(tmp_path / "set", {"a1.jsonl": 4, "a2.jsonl": 3, "b.jsonl": 2, "c.jsonl": 5})
    card_of(tmp_path, "a[0-3].jsonl")
    train, validation, notices = step_rows(tmp_path, source="set")
    assert set(train + validation) == {"a1.jsonl", "a2.jsonl"}
    (found,) = [p for p in problems(tmp_path, source="set") if p.code == "files_left_out"]
    assert "b.jsonl is not trained, because the dataset card does not list it" in found.sentence
    assert any("c.jsonl (5 rows) is excluded" in s for s in notices)
    card_of(tmp_path, "gone/*.jsonl")
    (error,) = [p for p in problems(tmp_path, source="set") if p.blocks]
    assert "of those in its dataset card, only test files exist (1 file)" in error.sentence
    card_of(tmp_path, "gone/*.jsonl", "")  # nothing of the card is there: the names decide
    (missing,) = [p for p in problems(tmp_path, source="set") if p.code == "split_missing"]
    assert "lists files for train that do not exist" in missing.sentence


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("./data/**", ["data/a.jsonl", "data/x/y/b.jsonl"]),
        ("**/b.jsonl", ["b.jsonl", "data/x/y/b.jsonl"]),
        ("data/*", ["data/a.jsonl"]),
        ("[!a]*.jsonl", ["b.jsonl", "c2.jsonl", "c].jsonl"]),
        ("c[]0-9].jsonl", ["c2.jsonl", "c].jsonl"]),
        ("[z-a].jsonl", []),
        ("data[/]a.jsonl", []),
        ("", []),
        (5, []),
        (None, []),
        (["b.jsonl", None, {"x": 1}], ["b.jsonl"]),
    ],
)
def test_patterns_of_a_card(pattern: Any, names: list[str]) -> None:
    files = ["b.jsonl", "c2.jsonl", "c].jsonl", "data/a.jsonl", "data/x/y/b.jsonl"]
    for data_files in ({"train": pattern}, [{"split": "train", "path": pattern}]):
        assert sorted(by_card(files, [{"data_files": data_files}], "").train) == names


@pytest.mark.parametrize("name", ["README.md", "readme.txt", "LICENSE.txt"])
def test_a_folder_that_is_only_described_holds_no_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text("# Rows\n\nAbout them.\n\nMore.\n", encoding="utf-8")
    (found,) = problems(tmp_path, source="set")
    assert found.code == "empty_folder"
    (tmp_path / "set" / "story.txt").write_text("One.\n\nTwo.\n\nThree.\n", encoding="utf-8")
    train, _, notices = step_rows(tmp_path, source="set", split_mode="none")
    assert train == ["story.txt"]
    assert f"Ignored {name} in set, which describes the data." in notices


# ------------------------------------------------------------------ save_to_disk


def test_saved_datasets_are_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    def rows(word: str, count: int) -> Dataset:
        return Dataset.from_list(
            [{"prompt": f"{word} {n}?", "completion": str(n)} for n in range(count)]
        )

    sets = DatasetDict(train=rows("t", 9), validation=rows("v", 4), test=rows("x", 3))
    sets.save_to_disk(str(tmp_path / "set"), num_shards={"train": 2, "validation": 1, "test": 1})
    (tmp_path / "set" / "train" / "cache-0123456789abcdef.arrow").write_bytes(b"not of the rows")
    train, validation, notices = step_rows(tmp_path, source="set")
    assert {Path(p).parent.name for p in train} == {"train"}
    assert {Path(p).parent.name for p in validation} == {"validation"}
    assert (len(train), len(validation)) == (9, 4)
    assert any("(3 rows) is excluded" in s for s in notices)
    assert shown_rows(tmp_path, source="set")[:2] == (train, validation)
    assert {p.severity for p in problems(tmp_path, source="set")} == {"info"}
    one, none, _ = step_rows(tmp_path, source="set/train", split_mode="none")
    assert (len(one), none) == (9, [])
    odd = DatasetDict(en=rows("e", 5), de=rows("d", 6))
    odd.save_to_disk(str(tmp_path / "odd"))
    (found,) = problems(tmp_path, source="odd")
    assert (found.code, found.field) == ("several_splits", "hub_split")
    value = prepared(tmp_path, step="de", source="odd", hub_split="de", split_mode="none")
    assert value.train_rows == 6


# ------------------------------------------------------------------ what is skipped


def test_files_of_other_types_are_counted(tmp_path: Path) -> None:
    write(
        tmp_path / "set",
        {
            "rows.jsonl": 5,
            "a.rtf": 1,
            "b.rtf": 1,
            "deep/photo.png": 1,
            "LICENSE": 1,
            "notes": 1,
        },
    )
    _, _, notices = step_rows(tmp_path, source="set")
    (sentence,) = [s for s in notices if "types that are not read" in s]
    assert sentence.startswith("Ignored 4 files in set")
    for kind in ("2 RTF", "1 PNG", "1 without a suffix"):
        assert kind in sentence
    (found,) = problems(tmp_path, source="set")
    assert (found.severity, found.code) == ("warning", "files_skipped")
    assert sentence in found.sentence
    assert sentence in shown_rows(tmp_path, source="set")[2]
    for path in ("rows.jsonl",):
        (tmp_path / "set" / path).unlink()
    (empty,) = problems(tmp_path, source="set")
    assert "without data files (it has 2 RTF" in empty.sentence


# ------------------------------------------------------------------ on the node, and reuse


def test_the_node_says_that_names_decide(tmp_path: Path) -> None:
    write(tmp_path / "set", {"train.jsonl": 4, "dev.jsonl": 2})
    node_type = load_registry().node_type("dataset")
    node = Node("data", "dataset", {"source": "set"})
    found = facts_of(node, node_type, tmp_path)
    assert short_line(found) == "split by file names"
    assert "dev.jsonl for validation" in found[0].value
    assert not facts_of(Node("data", "dataset", {"source": "set/train.jsonl"}), node_type, tmp_path)


def test_a_file_that_changes_sides_is_another_dataset(tmp_path: Path) -> None:
    def fingerprint() -> str:
        graph = Graph("Rows", (Node("data", "dataset", {"source": "set"}),))
        compiled = compile_plan(graph, load_registry(), tmp_path)
        assert compiled.plan is not None
        return compiled.plan.step("data").fingerprint

    write(tmp_path / "set", {"train/a.jsonl": 4, "train/b.jsonl": 3, "valid/c.jsonl": 2})
    before, value = fingerprint(), prepared(tmp_path, step="before", source="set")
    (tmp_path / "set" / "train" / "b.jsonl").rename(tmp_path / "set" / "valid" / "b.jsonl")
    assert fingerprint() != before
    after = prepared(tmp_path, step="after", source="set")
    assert (value.train_rows, after.train_rows) == (7, 4)
    assert lines_of(after, "validation") == [1, 2, 3, 1, 2]


def test_groups_share_what_belongs_to_none() -> None:
    names = ["en/train.jsonl", "de/train.jsonl", "dev.jsonl", "de/test.jsonl"]
    with pytest.raises(NoSuchPart, match="several configurations; choose one of: en, de"):
        by_names(names)
    found = by_names(names, "en")
    assert (found.train, found.validation, found.test) == (("en/train.jsonl",), ("dev.jsonl",), ())


def test_the_train_node_knows_validation_files(tmp_path: Path) -> None:
    """Without a fraction, validation rows come from the files alone."""
    write(tmp_path / "set", {"train.jsonl": 4, "dev.jsonl": 2, "alone/rows.jsonl": 3})
    train = load_registry().nodes["train"]

    def codes(source: str) -> set[str]:
        data = DatasetSettings(source=source, validation_fraction=0.0)
        context = CheckContext(
            "train",
            "Train",
            tmp_path,
            variants=load_registry().variants,
            upstream={"data": ("dataset", data)},
        )
        return {p.code for p in train.check(TrainSettings(eval_steps=5), context)}

    assert "no_validation_rows" not in codes("set")
    assert "no_validation_rows" in codes("set/alone")


def test_the_estimate_counts_the_rows_of_each_split(tmp_path: Path) -> None:
    from studio.estimate.job import Facts, Job
    from studio.estimate.machine import this_machine
    from studio.estimate.rows import rows_of

    write(
        tmp_path / "set",
        {"train/a.jsonl": 30, "train/b.jsonl": 20, "val/c.jsonl": 7, "test.jsonl": 9},
    )
    sets = (DatasetSettings(source="set"),)
    job = Job("train", TrainSettings(), None, None, sets, None, tmp_path)
    data, _ = rows_of(job, Facts(this_machine()))
    assert data is not None
    assert (data.rows, data.validation) == (50, 7)
