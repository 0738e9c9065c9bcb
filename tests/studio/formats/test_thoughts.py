"""Thoughts before an answer, in every spelling of data; and nulls that were written, or only added by
the fixed schema of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.canonical import messages_of, to_arrow, tools_of
from studio.data.conversation import messages_in
from studio.data.reading.reader import read_rows
from studio.data.row_format import RowError
from studio.data.window import open_window
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings

THOUGHT = "Two plus two makes four."
QUESTION = {"role": "user", "content": "Two and two?"}


def answer(**given: Any) -> dict[str, Any]:
    return messages_in([QUESTION, {"role": "assistant", **given}], "messages")[1]


SPELLINGS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"content": "4", "reasoning_content": THOUGHT},
    "reasoning": {"content": "4", "reasoning": THOUGHT},
    "thinking": {"content": "4", "thinking": THOUGHT},
    "the same twice": {"content": "4", "reasoning": THOUGHT, "reasoning_content": THOUGHT},
    "list of texts": {"content": "4", "reasoning": [{"type": "text", "text": THOUGHT}]},
    "beside a flag": {"content": "4", "thinking": True, "reasoning": THOUGHT},
    "beside a null": {"content": "4", "thinking": None, "reasoning": THOUGHT},
    "Anthropic": {
        "content": [
            {"type": "thinking", "thinking": THOUGHT, "signature": "x"},
            {"type": "text", "text": "4"},
        ]
    },
    "Mistral": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": "4"},
        ]
    },
    "OpenAI": {
        "content": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]},
            {"type": "output_text", "text": "4"},
        ]
    },
    "reasoning with text": {
        "content": [{"type": "reasoning", "text": THOUGHT}, {"type": "text", "text": "4"}]
    },
    "reasoning of its own name": {
        "content": [{"type": "reasoning", "reasoning": THOUGHT}, {"type": "text", "text": "4"}]
    },
    "two parts": {
        "content": [
            {"type": "thinking", "thinking": "Two plus two"},
            {"type": "thinking", "thinking": "makes four."},
            {"type": "text", "text": "4"},
        ]
    },
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_thought_reaches_the_template_as_reasoning_content(name: str) -> None:
    found = answer(**SPELLINGS[name])
    assert found["content"] == "4"
    assert found["reasoning_content"].split() == THOUGHT.split()
    assert set(found) == {"role", "content", "reasoning_content"}


def test_inline_thoughts_stay_text() -> None:
    content = f"<think>\n{THOUGHT}\n</think>\n\n4"
    assert answer(content=content) == {"role": "assistant", "content": content}


@pytest.mark.parametrize("given", [{"thinking": ""}, {"reasoning": None}, {"thinking": False}])
def test_no_thought_is_no_thought(given: dict[str, Any]) -> None:
    assert answer(content="4", **given) == {"role": "assistant", "content": "4"}


def test_a_tool_call_keeps_its_thought() -> None:
    calls = [{"name": "w", "arguments": {}}]
    assert answer(content=None, thinking="hm", tool_calls=calls)["reasoning_content"] == "hm"
    row = [QUESTION, {"from": "function_call", "value": json.dumps(calls[0]), "reasoning": "hm"}]
    row[0] = {"from": "human", "value": "?"}
    assert messages_in(row, "messages")[1]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"content": "4", "reasoning": "a", "thinking": "b"}, "several different thoughts"),
        ({"content": "4", "reasoning": {"effort": "high"}}, "an object in “reasoning”"),
        (
            {"content": [{"type": "text", "text": "4"}, {"type": "thinking", "thinking": "a"}]},
            "a thought after the beginning of the answer in message 2",
        ),
        ({"content": [{"type": "thinking", "thinking": "a"}]}, "no value in message 2"),
        (
            {
                "content": [
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "4"},
                ]
            },
            "redacted_thinking",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        answer(**given)


# ------------------------------------------------------------------ nulls


CALL = {"from": "Bern", "to": None, "via": {"a": None, "b": [None, {"c": None}]}}
SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": ["string", "null"], "default": None}},
}


def row(arguments: Any, schema: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "trains", "arguments": arguments}}
    tool = {"type": "function", "function": {"name": "trains", "parameters": schema}}
    messages = [QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]
    return {"messages": messages, "tools": [tool]}


def stored(given: Any) -> tuple[Any, Any]:
    """Arguments and parameters as the template receives them."""
    variant = load_registry().variants["format"]["messages"]
    found = to_arrow(variant.payload.convert(given, variant.settings()))
    call = messages_of(found)[1]["tool_calls"][0]["function"]
    tools = tools_of(found)
    assert tools is not None
    return call["arguments"], tools[0]["function"].get("parameters")


@pytest.mark.parametrize("arguments", [CALL, json.dumps(CALL)])
def test_nulls_of_json_stay(arguments: Any) -> None:
    assert stored(row(arguments, SCHEMA)) == (CALL, SCHEMA)
    given = row(arguments, SCHEMA)
    assert stored({k: json.dumps(v) for k, v in given.items()}) == (CALL, SCHEMA)
    calls = given["messages"][1]["tool_calls"]
    given["messages"][1]["tool_calls"] = json.dumps(calls)
    assert stored(given) == (CALL, SCHEMA)


def test_a_jsonl_file_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row(CALL, SCHEMA)) + "\n", encoding="utf-8")
    (found,) = rows_of(file)
    assert stored(found) == (CALL, SCHEMA)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_filler_of_a_table_goes_and_its_json_text_stays(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    file = tmp_path / f"rows.{suffix}"
    given = [row({"from": "Bern"}, {"type": "object"}), row({"city": "Oslo"}, {"type": "object"})]
    given[1]["tools"][0]["function"]["description"] = "d"
    table = pa.Table.from_pylist([*given])
    text = pa.Table.from_pylist([row(json.dumps(CALL), json.dumps(SCHEMA))])
    if suffix == "parquet":
        parquet.write_table(table, file)
        parquet.write_table(text, tmp_path / "text.parquet")
    else:
        for data, path in ((table, file), (text, tmp_path / "text.arrow")):
            with pa.ipc.new_file(str(path), data.schema) as sink:
                sink.write_table(data)
    first, second = rows_of(file)
    assert first["messages"][1]["tool_calls"][0]["function"]["arguments"]["city"] is None
    assert stored(first) == ({"from": "Bern"}, {"type": "object"})
    assert stored(second) == ({"city": "Oslo"}, {"type": "object"})
    assert "description" not in json.dumps(to_arrow_tools(first))
    (written,) = rows_of(tmp_path / f"text.{suffix}")
    assert stored(written)[0] == CALL


def to_arrow_tools(given: Any) -> Any:
    variant = load_registry().variants["format"]["messages"]
    return variant.payload.convert(given, variant.settings())["tools"]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file as a run reads them, which are those that the window reads by number."""
    found = [r.data for r in read_rows(file)]
    settings = DatasetSettings(source=str(file))
    with open_window(settings, file.parent, load_registry().variants["format"]) as window:
        assert [r.data for r in window.rows(1, len(found))] == found
    return found
