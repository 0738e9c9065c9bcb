"""The formats in CSV and Parquet files, where lists are JSON text or one fixed shape with nulls."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from studio.data.check import first_rows
from studio.data.detect import choose_format
from studio.data.reading.reader import read_rows
from studio.data.window import open_window
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings

FORMATS = load_registry().variants["format"]
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
PAIR = {
    "messages": CHAT[:1],
    "chosen": CHAT[1:],
    "rejected": [{"role": "assistant", "content": "c"}],
}
ASKED = "q\nA. ice\nB. sand\n\nAnswer with the letter of the right choice."
QUIZ = {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": "B"}]}


def rows_of(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The detected format's id and the canonical rows."""
    rows = first_rows(path)
    chosen = choose_format(path, "auto", {}, rows, FORMATS)
    return chosen.variant.id, [chosen.convert(r, path) for r in rows]


def as_csv(folder: Path, row: dict[str, Any]) -> Path:
    path = folder / "rows.csv"
    written = {k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows([written, written])
    return path


def as_parquet(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("messages", {"messages": CHAT}, {"messages": CHAT}),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": CHAT},
    ),
    (
        "instruction",
        {"instruction": "a", "input": "", "output": "b", "history": []},
        {"messages": CHAT},
    ),
    ("prompt_completion", {"prompt": CHAT[:1], "completion": CHAT[1:]}, {"messages": CHAT}),
    (
        "preference",
        {"chosen": CHAT, "rejected": [*CHAT[:1], {"role": "assistant", "content": "c"}]},
        PAIR,
    ),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "c"}, PAIR),
    ("kto", {"prompt": "a", "completion": "b", "label": False}, {"messages": CHAT, "label": False}),
    ("question_answer", {"question": "q", "choices": ["ice", "sand"], "answer": 1}, QUIZ),
    (
        "question_answer",
        {
            "question": "q",
            "choices": {"text": ["ice", "sand"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        QUIZ,
    ),
]


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize(("wanted", "row", "canonical"), CASES)
def test_a_format_in_a_table(
    write: Any, wanted: str, row: dict[str, Any], canonical: dict[str, Any], tmp_path: Path
) -> None:
    found, rows = rows_of(write(tmp_path, row))
    assert found == wanted
    assert rows[0] == canonical


def test_the_answers_of_squad_in_parquet(tmp_path: Path) -> None:
    row = {
        "context": "Ada wrote.",
        "question": "Who?",
        "answers": {"text": ["Ada"], "answer_start": [0]},
    }
    found, rows = rows_of(as_parquet(tmp_path, row))
    assert found == "question_answer"
    assert [m["content"] for m in rows[0]["messages"]] == ["Ada wrote.\n\nWho?", "Ada"]


def test_the_nulls_of_a_fixed_shape_are_not_learnt(tmp_path: Path) -> None:
    """Parquet gives the call of one tool the arguments of the other, as nulls."""

    def row(tool: str, **arguments: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": tool, "arguments": arguments}}
        shape = {"type": "object", "properties": {k: {"type": "string"} for k in arguments}}
        return {
            "messages": [*CHAT, {"role": "assistant", "content": None, "tool_calls": [call]}],
            "tools": [{"type": "function", "function": {"name": tool, "parameters": shape}}],
        }

    given = [row("weather", city="Oslo"), row("sum", left="1", right="2")]
    found, rows = rows_of(as_parquet(tmp_path, *given))
    assert found == "messages"
    for one, wanted in zip(rows, given, strict=True):
        assert one["messages"][:2] == CHAT
        assert one["messages"][2]["tool_calls"] == wanted["messages"][2]["tool_calls"]
        assert one["tools"] == wanted["tools"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_labels_that_the_file_names_itself_need_no_setting(kind: str, tmp_path: Path) -> None:
    """As the datasets library writes them: numbers, and the names in the notes of the file."""
    from datasets import ClassLabel, Dataset, Features, Value

    texts = [f"film {n}" for n in range(20)]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    made = Dataset.from_dict({"text": texts, "label": [n % 2 for n in range(20)]}, features)
    if kind == "parquet":
        made.to_parquet(str(tmp_path / "rows.parquet"))
    else:
        made.save_to_disk(str(tmp_path / "saved"))
        next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / "rows.arrow")
    path = tmp_path / f"rows.{kind}"
    settings = DatasetSettings(source=str(path))
    with open_window(settings, tmp_path, FORMATS) as window:
        chosen = window.chosen
        shown = [chosen.convert(r, path) for r in window.rows(1, 20)]
    read = [chosen.convert(r, path) for r in read_rows(path)]
    assert (chosen.variant.id, shown) == ("classification", read)
    assert "needs" not in chosen.reason
    assert [r["messages"][1]["content"] for r in read[:2]] == ["bad", "good"]
    assert "Labels: bad, good\n" in read[0]["messages"][0]["content"]
    own = settings.model_copy(
        update={"format": "classification", "format_settings": {"label_names": ["no", "yes"]}}
    )
    with open_window(own, tmp_path, FORMATS) as window:
        (row,) = window.rows(2, 2)
        assert window.chosen.convert(row, path)["messages"][1]["content"] == "yes"
