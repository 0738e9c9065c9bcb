"""A text file is one row by default, and every token of it is trained; a single row is not held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.full_check import check_rows
from studio.data.reading import text
from studio.data.split.sides import SidesByNumber
from studio.data.window import open_window
from studio.errors import StudioError
from studio.estimate.data_facts import read_data_facts
from studio.graph.facts import facts_of, short_line
from studio.graph.graph import Graph, Node, Wire
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.training.data_host import preview as preview_module
from studio.training.data_host.preview import preview
from studio.training.loop.train import train_adapter
from studio.training.tokens.encoder import open_rows
from studio.values import DatasetValue
from tests.studio.formats.everyday import problems
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_data import sentences_of
from tests.studio.training.test_report import report_on
from tests.studio.training.test_rows import lines_of, prepared

REGISTRY = load_registry()
BOOK = "# A book\n\n" + "The bird sings.\nIt flies.\n\n" * 12
NO_ROW_LEFT = "no row is left for validation"


def trained(root: Path, value: DatasetValue, **settings: Any) -> tuple[Recorder, int]:
    """A training with the default of long text: its events and the number of its rows in one epoch."""
    recorder = Recorder()
    inputs = {**make_inputs(root), "dataset": value.to_json()}
    chosen = settings_of(max_length=64, max_steps=2, **settings)
    train_adapter(make_context(root / "train", recorder), inputs, chosen)
    (counted,) = (s for s in sentences_of(recorder) if "training rows with" in s)
    return recorder, int(counted.split()[0])


def test_files_of_a_folder_are_rows_of_which_every_token_is_trained(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("\n" + BOOK, encoding="utf-8")
    (tmp_path / "books" / "b.md").write_text(BOOK.upper(), encoding="utf-8")
    value = prepared(tmp_path, source="books")
    assert (value.train_rows, value.validation_rows) == (1, 1)
    texts = {
        r["text"] for split in ("train", "validation") for r in open_rows(Path(value.path) / split)
    }
    assert texts == {BOOK.strip("\n"), BOOK.strip("\n").upper()}
    recorder, rows = trained(tmp_path, value)
    size = len(BOOK.strip("\n")) + 1  # bytes, and the end token
    assert rows == -(-(size - 1) // 63) > 5
    assert f"the loss is computed on {size - 1} of them" in " ".join(sentences_of(recorder))
    assert any(e.get("eval_loss") for e in recorder.named("Metric"))
    report = report_on(
        tmp_path / "books", validation_fraction=0.1, max_length=64, long_text="split"
    )
    assert (report.train_rows, report.train_pieces, report.trained_tokens) == (1, rows, size - 1)


def test_a_single_file_trains_without_validation_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "book.md"
    file.write_text(BOOK, encoding="utf-8")
    read = Recorder()
    value = prepared(tmp_path, read, source="book.md")
    assert (value.train_rows, value.validation_rows) == (1, 0)
    (notice,) = (e for e in read.named("Notice") if NO_ROW_LEFT in e.get("sentence"))
    assert (notice.get("level"), "book.md is one row" in notice.get("sentence")) == (
        "warning",
        True,
    )
    assert "Separate file" in notice.get("hint")
    assert "Paragraphs" in notice.get("hint")
    recorder, rows = trained(tmp_path, value)
    assert rows > 5
    assert len(recorder.losses()) == 2
    assert not any(e.get("eval_loss") for e in recorder.named("Metric"))

    (problem,) = problems(tmp_path, source="book.md")
    assert (problem.severity, problem.code) == ("warning", "no_validation_rows")
    assert (problem.sentence, problem.hint) == (
        f"Dataset: {notice.get('sentence')}",
        notice.get("hint"),
    )
    assert notice.get("sentence") in report_on(file, validation_fraction=0.1).notes
    node = Node("data", "dataset", {"source": "book.md"})
    assert short_line(facts_of(node, REGISTRY.node_type("dataset"), tmp_path)) == (
        "no validation rows"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"documents": "paragraph"},
        {"documents": "line"},
        {"split_mode": "none"},
        {"validation_fraction": 0.0},
        {"split_mode": "file", "validation_source": "more.txt"},
        {"source": "book.md; more.txt"},
    ],
)
def test_the_ways_out_of_a_single_row(settings: dict[str, Any], tmp_path: Path) -> None:
    for name in ("book.md", "more.txt"):
        (tmp_path / name).write_text(BOOK + name, encoding="utf-8")
    settings = {"source": "book.md", **settings}
    assert not problems(tmp_path, **settings)
    recorder = Recorder()
    value = prepared(tmp_path, recorder, **settings)
    assert not any(NO_ROW_LEFT in s for s in sentences_of(recorder))
    none = settings.get("split_mode") == "none" or settings.get("validation_fraction") == 0.0
    assert bool(value.validation_rows) != none


@pytest.mark.parametrize("split", [{}, {"split_mode": "share"}, {"split_mode": "count"}])
def test_one_row_of_any_file_is_trained_whatever_the_seed(
    split: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8")
    for seed in range(12):
        settings = {"source": "one.jsonl", "validation_fraction": 0.5, "seed": seed, **split}
        recorder = Recorder()
        value = prepared(tmp_path, recorder, str(seed), **settings)
        assert (value.train_rows, value.validation_rows) == (1, 0)
        (notice,) = (e for e in recorder.named("Notice") if NO_ROW_LEFT in e.get("sentence"))
        assert "add rows" in notice.get("hint")
        checked = check_rows(DatasetSettings(**settings), tmp_path, REGISTRY.variants["format"])
        (problem,) = checked.problems
        assert (problem.sentence, problem.severity) == (notice.get("sentence"), "warning")
        with open_window(
            DatasetSettings(**settings), tmp_path, REGISTRY.variants["format"]
        ) as rows:
            assert SidesByNumber(rows, lambda _, row: rows.chosen.canonical(row, file)).side(1) == (
                "train"
            )


def test_the_row_that_is_left_after_others_were_excluded_is_trained(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"a{n}", "completion": "b"}) for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for kept in range(1, 5):
        others = ", ".join(str(n) for n in range(1, 5) if n != kept)
        recorder = Recorder()
        value = prepared(
            tmp_path,
            recorder,
            str(kept),
            source="rows.jsonl",
            validation_fraction=0.9,
            drop_rows=others,
        )
        assert lines_of(value, "train") == [kept]
        assert sum(NO_ROW_LEFT in s for s in sentences_of(recorder)) == 1


def test_settings_of_train_that_need_validation_are_warned_about(tmp_path: Path) -> None:
    (tmp_path / "book.md").write_text(BOOK, encoding="utf-8")

    def warned(**data: Any) -> bool:
        train = Node("train", "train", {"early_stopping": 3})
        graph = Graph(
            "p",
            (Node("data", "dataset", {"source": "book.md", **data}), train),
            (Wire("data", "dataset", "train", "dataset"),),
        )
        found = find_problems(graph, REGISTRY, tmp_path)
        return ("train", "early_stopping") in {(p.node, p.field) for p in found}

    assert warned()
    assert not warned(documents="paragraph")


# ------------------------------------------------------------------ reading


def test_a_damaged_character_is_named_with_its_line(tmp_path: Path) -> None:
    for name, content in (
        ("nul.txt", b"good\n\nb\0d\n"),
        ("bad.md", b"good\n\n\xc3\xa9 caf\xe9\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StudioError) as caught:
            prepared(tmp_path, source=name, step=f"step-{name}", encoding="utf-8")
        assert caught.value.line == 3
        assert f"line 3 of {name}" in caught.value.sentence


def test_a_file_that_is_too_large_for_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "LARGEST_DOCUMENT", 100)
    (tmp_path / "large.txt").write_text(BOOK, encoding="utf-8")
    with pytest.raises(StudioError) as caught:
        prepared(tmp_path, source="large.txt")
    assert (caught.value.field, caught.value.code) == ("documents", "giant_document")
    assert "Paragraphs" in caught.value.hint
    assert prepared(tmp_path, step="two", source="large.txt", documents="paragraph").train_rows


def test_the_rows_tab_gets_the_beginning_of_a_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_module, "MOST_CHARACTERS", 20)
    (tmp_path / "book.md").write_text(BOOK, encoding="utf-8")
    shown = preview({"source": "book.md"}, tmp_path, REGISTRY.variants["format"], 1, 8)
    assert [row["row"]["text"] for row in shown["rows"]] == [BOOK[:20] + "…"]
    assert NO_ROW_LEFT in " ".join(shown["files"])


# ------------------------------------------------------------------ estimates


@pytest.mark.parametrize(("size", "tokens"), [(4_000, 1_001), (5_000_000, 1_250_001)])
def test_the_estimate_knows_the_length_of_a_file(size: int, tokens: int, tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("a line\n\n" * (size // 8) + "\n", encoding="utf-8")
    facts = read_data_facts(file)
    assert facts is not None
    assert (facts.rows, facts.labels) == (1, 1.0)
    assert facts.texts[0] == pytest.approx(tokens, rel=0.001)
    parts = read_data_facts(file, "paragraph")
    assert parts is not None
    assert parts.rows == pytest.approx(size // 8, rel=0.01)
    assert set(parts.texts) <= {2, 3}
    file.write_text("\n\n", encoding="utf-8")
    assert read_data_facts(file) is None
