"""The estimate of a training that splits long plain text counts pieces, as the training makes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from studio.estimate.data_facts import DataFacts, in_pieces, read_data_facts
from studio.estimate.graph import estimate_graph
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.training.tokens.pieces import piece_starts
from tests.e2e.studio_cli import write_project
from tests.tiny import make_tiny_model

CHARACTERS = (40, 4000, 1200, 511, 512, 20_000)


def write_texts(folder: Path) -> Path:
    path = folder / "texts.jsonl"
    rows = (json.dumps({"text": "a" * n, "source": "web"}) for n in CHARACTERS)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("length", [8, 64, 128, 129, 6000])
def test_as_many_pieces_and_tokens_as_a_training_makes(length: int, tmp_path: Path) -> None:
    facts = read_data_facts(write_texts(tmp_path))
    assert facts is not None
    assert facts.texts == tuple(round(n / 4) + 1 for n in CHARACTERS)  # with the end token
    found = in_pieces(facts, length)
    pieces = sum(len(piece_starts(n, length)) for n in facts.texts)
    assert found.rows == pieces
    assert found.rows * found.mean == pytest.approx(sum(facts.texts) + pieces - len(CHARACTERS))
    assert found.longest == min(length, 5001)


def test_rows_that_answer_something_are_not_split(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"text": "a" * 4000, "response": "b" * 4000}) + "\n", encoding="utf-8"
    )
    facts = read_data_facts(path)
    assert isinstance(facts, DataFacts)
    assert in_pieces(facts, 64) == facts


@pytest.mark.parametrize("inside", ["\u2028", "\x85", "\x0b", "\x0c", "\r"])
def test_only_line_feeds_end_a_row(inside: str, tmp_path: Path) -> None:
    """As the rows are read: a text may contain other line ends."""
    lines, rows = tmp_path / "lines.txt", tmp_path / "rows.jsonl"
    lines.write_bytes(f"one{inside}two\nthree\n".encode())
    text = json.dumps({"text": f"one{inside}two"}, ensure_ascii=False)
    rows.write_bytes(f"{text}\n\n{text}\n".encode())
    for facts in (read_data_facts(lines, "line"), read_data_facts(rows)):
        assert facts is not None
        assert facts.rows == 2


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("ROWS.JSONL", 2),
        ("rows.Ndjson", 2),
        ("ROWS.JSON", 1),
        ("ROWS.TSV", 1),
        ("rows.jsonl.gz", None),
        ("rows.parquet", None),
    ],
)
def test_files_are_known_by_their_suffix_as_by_the_dataset(
    name: str, rows: int | None, tmp_path: Path
) -> None:
    """In capitals as well; what would have to be unpacked is not counted."""
    text = {"ROWS.JSON": '[{"text": "one"}]', "ROWS.TSV": "text\none\n"}
    (tmp_path / name).write_text(text.get(name, '{"text": "one"}\n' * 2), encoding="utf-8")
    facts = read_data_facts(tmp_path / name)
    assert (facts and facts.rows) == rows


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_row_that_is_nested_too_deeply_is_not_counted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
    assert read_data_facts(tmp_path / name) is None


def test_steps_and_tokens_of_the_node_follow_the_setting(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    rows = write_texts(tmp_path)

    def estimate(**train: Any) -> tuple[int | None, int | None]:
        changes = {"max_steps": 0, "epochs": 1, "batch_size": 2, "max_length": 64, **train}
        project = write_project(
            tmp_path / "p.studio", model, rows, train=changes, data={"validation_fraction": 0.0}
        )
        found = estimate_graph(load_project(project), load_registry(), tmp_path)
        return found.steps, found.tokens

    lengths = [round(n / 4) + 1 for n in CHARACTERS]
    pieces = sum(len(piece_starts(n, 64)) for n in lengths)
    assert estimate(long_text="cut")[0] == 3
    steps, tokens = estimate()
    assert steps == math.ceil(pieces / 2)
    assert tokens == sum(lengths) + pieces - len(lengths)


def test_a_text_file_is_one_row_in_pieces(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text("a" * 4000 + "\n\n" + "b" * 4000, encoding="utf-8")

    def steps(source: str, **data: Any) -> int | None:
        train = {"max_steps": 0, "epochs": 1, "batch_size": 1, "max_length": 64}
        project = write_project(
            tmp_path / "p.studio", model, tmp_path, train=train, data={"source": source, **data}
        )
        return estimate_graph(load_project(project), load_registry(), tmp_path).steps

    pieces = len(piece_starts(round(8002 / 4) + 1, 64))
    assert steps("a.txt") == pieces  # a single row is not held out
    assert steps("a.txt; b.md", validation_fraction=0.1) == pieces  # one of two rows is
    assert steps("a.txt; b.md", validation_fraction=0.0) == 2 * pieces
    assert steps("a.txt", documents="paragraph", validation_fraction=0.0) == 2 * len(
        piece_starts(1001, 64)
    )
