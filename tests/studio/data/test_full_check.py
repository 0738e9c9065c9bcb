"""The check of all rows finds before a run what would stop the run, at the same line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.data import kept_checks
from studio.data.full_check import check_rows
from studio.data.kept_checks import Checked, kept, key_of
from studio.errors import Problem, StudioError
from studio.graph.facts import facts_of
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.runs.row_check import check_all_rows, unchecked
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context

REGISTRY = load_registry()
FORMATS = REGISTRY.variants["format"]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    kept_checks.results.clear()
    yield
    kept_checks.results.clear()


def pairs(count: int) -> list[str]:
    return [json.dumps({"prompt": f"q{n * 7919}", "completion": f"a{n}"}) for n in range(count)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def check(path: Path, **settings: Any) -> Checked:
    return check_rows(DatasetSettings(source=str(path), **settings), path.parent, FORMATS)


def run(path: Path, folder: Path, **settings: Any) -> Any:
    context = make_context(folder, Recorder())
    return prepare_rows(context, DatasetSettings(source=str(path), **settings))


# ------------------------------------------------------------------ what would stop a run


def broken_line(folder: Path) -> Path:
    lines = pairs(800)
    lines[776] = lines[776][:-5]
    return write(folder / "rows.jsonl", lines)


def cut_archive(folder: Path) -> Path:
    data = gzip.compress("\n".join(pairs(5000)).encode())
    path = folder / "rows.jsonl.gz"
    path.write_bytes(data[: len(data) * 3 // 4])
    return path


def wrong_type(folder: Path) -> Path:
    lines = pairs(800)
    lines[776] = json.dumps({"prompt": "q", "completion": None})
    return write(folder / "rows.jsonl", lines)


def missing_column(folder: Path) -> Path:
    return write(folder / "rows.jsonl", [*pairs(776), json.dumps({"prompt": "q"})])


def open_quote(folder: Path) -> Path:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["prompt", "completion"])
    rows.writerows([f"q{n}", f"a{n}"] for n in range(775))
    path = folder / "rows.csv"
    path.write_text(out.getvalue() + 'q,"never closed\r\n', encoding="utf-8")
    return path


def bad_bytes(folder: Path) -> Path:
    lines = "\n".join(pairs(776)).encode()
    path = folder / "rows.jsonl"
    path.write_bytes(lines + b'\n{"prompt": "q\xff", "completion": "a"}\n')
    return path


def open_list(folder: Path) -> Path:
    path = folder / "rows.json"
    path.write_text("[\n" + ",\n".join(pairs(775)) + ",\n", encoding="utf-8")
    return path


def half_character(folder: Path) -> Path:
    return write(folder / "rows.jsonl", [*pairs(776), '{"prompt": "q\\ud83d", "completion": "a"}'])


def no_answer(folder: Path) -> Path:
    def chat(*roles: str) -> str:
        return json.dumps({"messages": [{"role": r, "content": "x"} for r in roles]})

    lines = [chat("user", "assistant")] * 776
    return write(folder / "rows.jsonl", [*lines, chat("user")])


def in_a_zip(folder: Path) -> Path:
    lines = pairs(800)
    lines[776] = lines[776][:-5]
    path = folder / "rows.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/rows.jsonl", "\n".join(lines))
    return path


def unknown_label(folder: Path) -> Path:
    lines = [json.dumps({"text": f"t{n}", "label": "ab"[n % 2]}) for n in range(776)]
    return write(folder / "rows.jsonl", [*lines, json.dumps({"text": "t", "label": 7})])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (broken_line, 777),
        (cut_archive, None),
        (wrong_type, 777),
        (missing_column, 777),
        (open_quote, 777),
        (bad_bytes, 777),
        (open_list, 777),
        (half_character, 777),
        (no_answer, 777),
        (unknown_label, 777),
        (in_a_zip, 777),
    ],
)
def test_what_stops_a_run_is_found_before_it(
    make: Callable[[Path], Path], line: int | None, tmp_path: Path
) -> None:
    path = make(tmp_path)
    more = {"encoding": "utf-8"} if make is bad_bytes else {}
    checked = check(path, **more)
    (problem,) = (p for p in checked.problems if p.blocks)
    with pytest.raises(StudioError) as caught:
        run(path, tmp_path / "run", **more)
    stopped = caught.value.problem()
    assert (problem.sentence, problem.line, problem.code) == (
        stopped.sentence,
        stopped.line,
        stopped.code,
    )
    assert problem.line == line
    assert "rows.j" in problem.sentence or path.name in problem.sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"split_mode": "column", "split_column": "prompt", "train_values": "z"},
        {"split_mode": "group", "group_column": "nowhere"},
        {"split_mode": "group", "group_column": "kind"},
        {"split_mode": "column", "split_column": "kind", "train_values": "one"},
        {"drop_rows": "1-100"},
    ],
)
def test_settings_of_the_split_that_stop_a_run(settings: dict[str, Any], tmp_path: Path) -> None:
    lines = [json.dumps({**json.loads(r), "kind": "one"}) for r in pairs(100)]
    path = write(tmp_path / "rows.jsonl", lines)
    with pytest.raises(StudioError) as caught:
        run(path, tmp_path / "run", **settings)
    checked = check(path, **settings)
    assert [p.sentence for p in checked.problems] == [caught.value.sentence]
    assert checked.problems[0].field == caught.value.field


# ------------------------------------------------------------------ what does not


@pytest.mark.parametrize(
    "settings",
    [
        {"limit": 700},
        {"drop_rows": "777"},
        {"drop_rows": "rows.jsonl:777"},
        {"on_bad_rows": "skip"},
        {"limit": 776, "deduplicate": True},
    ],
)
def test_limit_excluded_rows_and_skipping_are_respected(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    path = broken_line(tmp_path)
    checked = check(path, **settings)
    assert not any(p.blocks for p in checked.problems)
    assert checked.complete
    value = run(path, tmp_path / "run", **settings)
    assert value.train_rows + value.validation_rows <= checked.rows
    skipped = [p for p in checked.problems if p.code == "rows_skipped"]
    assert bool(skipped) == (value.skipped > 0)
    for problem in skipped:
        assert problem.severity == "warning"
        assert problem.sentence.startswith(
            "1 invalid row is skipped: rows.jsonl:777. The first: line 777"
        )


def test_skipping_does_not_help_where_the_next_row_cannot_be_found(tmp_path: Path) -> None:
    (problem,) = check(cut_archive(tmp_path), on_bad_rows="skip").problems
    assert (problem.blocks, problem.code) == (True, "corrupt_gzip")


def test_the_validation_file_is_read_too(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", pairs(100))
    bad = broken_line(tmp_path)
    checked = check(good, split_mode="file", validation_source=str(bad), limit=50)
    assert [(p.line, p.blocks) for p in checked.problems] == [(777, True)]


def test_each_file_of_a_folder_is_read(tmp_path: Path) -> None:
    for n in range(25):
        write(tmp_path / f"part-{n:02}.jsonl", pairs(60))
    lines = pairs(60)
    write(tmp_path / "part-23.jsonl", [*lines[:55], "{", *lines[55:]])
    (problem,) = check(tmp_path).problems
    assert (problem.line, problem.sentence.split(" is ")[0]) == (56, "line 56 of part-23.jsonl")


def test_good_rows_give_nothing(tmp_path: Path) -> None:
    assert check(write(tmp_path / "rows.jsonl", pairs(800))) == Checked((), 800, 800, True)


def test_rows_that_were_rendered_to_text_are_counted(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {
                "text": f"<|im_start|>user\nWhat is {n}+1?<|im_end|>\n<|im_start|>assistant\nIt is {n + 1}.<|im_end|>\n"
            }
        )
        for n in range(12)
    ]
    path = write(tmp_path / "rows.jsonl", lines)
    (problem,) = check(path).problems
    assert (problem.code, problem.severity, problem.field) == ("rendered_chat", "warning", "format")
    assert problem.sentence.startswith("12 of 12 texts are conversations")
    assert "“Rendered conversations”" in problem.hint
    assert not check(path, format="rendered_chat").problems
    few = write(tmp_path / "few.jsonl", [*([json.dumps({"text": "plain"})] * 30), lines[0]])
    (problem,) = check(few).problems
    assert problem.sentence.startswith("1 of 31 texts")
    assert "data report" in problem.hint


# ------------------------------------------------------------------ what was not reached


def test_what_was_not_reached_is_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", pairs(1000))
    asked = iter(range(10_000))
    checked = check_rows(
        DatasetSettings(source=str(path)), tmp_path, FORMATS, lambda: next(asked) >= 299
    )
    assert (checked.rows, checked.complete) == (300, False)
    assert 900 <= checked.total <= 1100
    assert checked.reached.startswith("the first 300 of about ")
    assert not checked.problems


def graph_of(path: Path, **settings: Any) -> Graph:
    return Graph(nodes=(Node("data", "dataset", {"source": path.name, **settings}),))


def problems_of(graph: Graph, folder: Path, all_rows: bool = True) -> list[Problem]:
    """What is wrong with the data; that no training uses them is not."""
    found = find_problems(graph, REGISTRY, folder, all_rows=all_rows)
    return [p for p in found if p.code != "unused_node"]


def test_the_problems_of_the_node_include_what_was_found(tmp_path: Path) -> None:
    graph = graph_of(broken_line(tmp_path))
    assert not problems_of(graph, tmp_path), "the quick look finds nothing"
    assert check_all_rows(graph, REGISTRY, tmp_path, 60.0)
    (problem,) = problems_of(graph, tmp_path)
    assert (problem.node, problem.line, problem.blocks) == ("data", 777, True)
    assert problem.sentence.startswith("Dataset: line 777 of rows.jsonl")
    assert not problems_of(graph, tmp_path, all_rows=False)
    assert not list(unchecked(graph, REGISTRY, tmp_path)), "kept"
    mended = graph_of(tmp_path / "rows.jsonl", on_bad_rows="skip")
    assert list(unchecked(mended, REGISTRY, tmp_path)), "other settings"


def test_a_part_is_stated_as_information(tmp_path: Path) -> None:
    graph = graph_of(write(tmp_path / "rows.jsonl", pairs(1000)))
    assert not check_all_rows(graph, REGISTRY, tmp_path, 0.0, keep_parts=False)
    assert check_all_rows(graph, REGISTRY, tmp_path, 0.0)
    (problem,) = problems_of(graph, tmp_path)
    assert (problem.severity, problem.blocks, problem.code) == ("info", False, "rows_not_checked")
    assert problem.sentence.startswith("Dataset: the first 1 of about 1,")
    assert problem.sentence.endswith(" rows were checked; a run checks the others.")
    node_type = REGISTRY.node_type("dataset")
    assert node_type is not None
    facts = facts_of(graph.node("data"), node_type, tmp_path)
    assert [f.label for f in facts] == ["Check"]
    assert facts[0].value.startswith("The first 1 of about 1,")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = broken_line(tmp_path)
    graph = graph_of(path)
    check_all_rows(graph, REGISTRY, tmp_path, 60.0)
    write(path, pairs(900))
    assert not problems_of(graph, tmp_path)
    assert check_all_rows(graph, REGISTRY, tmp_path, 60.0)
    assert not problems_of(graph, tmp_path)


def test_a_stopped_check_keeps_nothing(tmp_path: Path) -> None:
    graph = graph_of(broken_line(tmp_path))
    assert not check_all_rows(graph, REGISTRY, tmp_path, 60.0, lambda: True)
    settings = DatasetSettings(source="rows.jsonl")
    assert kept(key_of(settings, tmp_path)) is None


def test_a_file_that_is_not_there_is_left_to_the_quick_check(tmp_path: Path) -> None:
    graph = graph_of(tmp_path / "nowhere.jsonl")
    assert not check_all_rows(graph, REGISTRY, tmp_path, 60.0)
    assert [p.code for p in problems_of(graph, tmp_path)] == ["missing_file"]


@pytest.mark.parametrize("make", [broken_line, cut_archive])
def test_the_rows_can_still_be_looked_at(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from studio.graph.project import load_project
    from studio.runs.plan import compile_plan
    from studio.runs.token_request import token_request
    from tests.e2e.studio_cli import write_project
    from tests.tiny import make_tiny_model

    make_tiny_model(tmp_path / "model")
    graph = load_project(write_project(tmp_path / "p.studio", "model", make(tmp_path)))
    assert check_all_rows(graph, REGISTRY, tmp_path, 60.0)
    assert compile_plan(graph, REGISTRY, tmp_path).plan is None
    request, _ = token_request(graph, REGISTRY, tmp_path)
    assert request is not None


def test_columns_that_later_rows_do_not_use_are_reported(tmp_path: Path) -> None:
    lines = pairs(3000)
    lines[2500] = json.dumps({"prompt": "q", "completion": "a", "remark": "late"})
    lines[0] = json.dumps({"prompt": "q", "completion": "a", "mood": "early"})
    (found,) = check(write(tmp_path / "rows.jsonl", lines)).problems
    assert (found.severity, found.code, found.field) == ("warning", "unused_column", "format")
    assert "in later rows: “remark” (1 row)" in found.sentence
    assert "mood" not in found.sentence  # the quick check reports it


@pytest.mark.parametrize(
    ("name", "value"), [("split", "test"), ("Subset", "Dev"), ("fold", "VALID")]
)
def test_a_column_that_marks_test_rows_is_reported(name: str, value: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", name: "train"} for n in range(900)]
    rows[800][name] = value
    path = write(tmp_path / "rows.jsonl", [json.dumps(r) for r in rows])
    (found,) = check(path).problems
    assert (found.severity, found.code) == ("warning", "unused_column")
    assert f"“{name}” (1 row)" in found.sentence
    assert "“By column”" in found.hint
    by_column = check(path, split_mode="column", split_column=name).problems
    assert "unused_column" not in [p.code for p in by_column]
    told = Recorder()
    context = make_context(tmp_path / "run", told)
    prepare_rows(context, DatasetSettings(source=str(path)))
    (notice,) = [e for e in told.named("Notice") if "Not used" in str(e.get("sentence"))]
    assert f"“{name}” (1 row)" in str(notice.get("sentence"))
    assert "“By column”" in str(notice.get("hint"))


def test_a_validation_file_may_mark_its_rows(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        rows = [{"prompt": f"{split}{n}", "completion": "a", "split": split} for n in range(9)]
        write(tmp_path / f"{split}.jsonl", [json.dumps(r) for r in rows])
    assert check(tmp_path).problems == ()
