"""What each format makes of a row, and which format a file is taken for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.check import first_rows
from studio.data.detect import choose_format, detect
from studio.data.reading.source import SourceRow
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]


def converted(format_id: str, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The canonical row of one format."""
    variant = FORMATS[format_id]
    return variant.payload.convert(row, variant.settings(**settings))


def chat(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": r, "content": c} for r, c in pairs]}


def test_an_alpaca_row_asks_with_its_input_after_a_blank_line() -> None:
    row = {"instruction": "Translate to French.", "input": "cat", "output": "chat"}
    wanted = chat(("user", "Translate to French.\n\ncat"), ("assistant", "chat"))
    assert converted("instruction", row) == wanted
    assert converted("instruction", {**row, "input": ""})["messages"][0]["content"] == (
        "Translate to French."
    )
    assert converted("instruction", {**row, "system": "Be brief."})["messages"][0] == {
        "role": "system",
        "content": "Be brief.",
    }


def test_a_prompt_is_a_user_message_or_plain_text() -> None:
    row = {"prompt": "2 + 2 =", "completion": 4}
    assert converted("prompt_completion", row) == chat(("user", "2 + 2 ="), ("assistant", "4"))
    plain = converted("prompt_completion", row, chat_template=False)
    assert plain == {"prompt": "2 + 2 =", "completion": "4"}


def test_question_and_answer_columns_are_found() -> None:
    row = {"question": "Where is Oslo?", "answer": "In Norway."}
    assert converted("prompt_completion", row) == chat(
        ("user", "Where is Oslo?"), ("assistant", "In Norway.")
    )


def test_own_column_names() -> None:
    row = {"q": "hi", "a": "hello", "prompt": "wrong"}
    settings = {"prompt_column": "q", "completion_column": "a"}
    assert converted("prompt_completion", row, **settings) == chat(
        ("user", "hi"), ("assistant", "hello")
    )


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
        {"messages": '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]'},
        {
            "messages": [
                {"role": "User", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": "yo"},
            ]
        },
    ],
    ids=["openai", "sharegpt", "json-text", "parts"],
)
def test_chat_rows_in_every_spelling(row: dict[str, Any]) -> None:
    assert converted("messages", row) == chat(("user", "hi"), ("assistant", "yo"))


def test_plain_text_stays_as_it_is() -> None:
    assert converted("text", {"text": "  two  spaces\n"}) == {"text": "  two  spaces\n"}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt"),
        ({"instruction": "a", "input": "", "output": "b"}, "instruction"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"question": "a", "answer": "b"}, "question_answer"),
        ({"text": "a"}, "text"),
        ({"text": "a", "url": "b"}, "text"),
    ],
)
def test_detection_says_what_and_why(row: dict[str, Any], wanted: str) -> None:
    best, sure = detect([SourceRow(1, row, 1)], FORMATS)[0]
    assert best.id == wanted
    assert sure.confidence >= 0.5
    assert "column" in sure.reason


def test_the_shipped_samples_are_recognised() -> None:
    data = Path(__file__).parents[3] / "assets" / "data"
    for name, wanted in (
        ("wordnet8_train.jsonl", "messages"),
        ("wordnet8_test.jsonl", "messages"),
        ("chatterbot_en_alpaca.jsonl", "instruction"),
    ):
        path = data / name
        assert choose_format(path, "auto", {}, first_rows(path), FORMATS).variant.id == wanted


def test_every_shipped_row_converts_and_names_its_licence() -> None:
    data = Path(__file__).parents[3] / "assets" / "data"
    notice = (data / "README.md").read_text(encoding="utf-8")
    for path in data.glob("*.jsonl"):
        chosen = choose_format(path, "auto", {}, first_rows(path), FORMATS)
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            assert chosen.convert(SourceRow(number, json.loads(line), 0), path)["messages"]
        assert f"`{path.name}` | {len(lines):,} |" in notice
    assert "Princeton University" in (data / "LICENSE-WordNet.txt").read_text(encoding="utf-8")
    assert "Gunther Cox" in (data / "LICENSE-chatterbot-corpus.txt").read_text(encoding="utf-8")
