"""Exact canonical rows of the formats that hold lists of messages: OpenAI's and ShareGPT's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.data.row_format import RowError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def converted(format_id: str, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The canonical row of one format."""
    variant = FORMATS[format_id]
    found: dict[str, Any] = variant.payload.convert(row, variant.settings(**settings))
    return found


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_openai_messages_with_tools() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Rain in "},
                    {"type": "text", "text": "Oslo?"},
                ],
                "name": "Ada",
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                    }
                ],
            },
            {
                "role": "tool",
                "content": {"rain": True},
                "tool_call_id": "call_1",
                "name": "weather",
            },
            {"role": "assistant", "content": "Yes.", "refusal": None},
        ],
        "tools": [TOOL],
        "parallel_tool_calls": False,
    }
    assert converted("messages", row) == {
        "messages": [
            said("system", "Be brief."),
            said("user", "Rain in Oslo?", name="Ada"),
            said("assistant", "", tool_calls=[{**CALL, "id": "call_1"}]),
            said("tool", '{"rain": true}', tool_call_id="call_1", name="weather"),
            said("assistant", "Yes."),
        ],
        "tools": [TOOL],
    }


def test_weights_and_train_of_messages() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "train": False},
            {"role": "user", "content": "e", "weight": None},
            {"role": "assistant", "content": "f", "weight": 0.5, "train": True},
        ]
    }
    assert converted("messages", row) == {
        "messages": [
            said("user", "a"),
            said("assistant", "b", weight=0.0),
            said("user", "c"),
            said("assistant", "d", weight=0.0),
            said("user", "e"),
            said("assistant", "f", weight=0.5),
        ]
    }


def test_thoughts_beside_an_answer_are_kept() -> None:
    row = {"messages": [said("user", "a"), said("assistant", "b", reasoning_content="hm")]}
    assert converted("messages", row) == row


def test_the_old_call_of_a_function() -> None:
    row = {
        "messages": [
            said("user", "a"),
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            },
            {"role": "function", "name": "weather", "content": "rain"},
        ],
        "functions": json.dumps([{"name": "weather", "parameters": {"type": "object"}}]),
    }
    assert converted("messages", row) == {
        "messages": [
            said("user", "a"),
            said("assistant", "", tool_calls=[CALL]),
            said("tool", "rain", name="weather"),
        ],
        "tools": [TOOL],
    }


def test_sharegpt_with_calls_and_observations() -> None:
    row = {
        "system": "Be brief.",
        "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {
                "from": "function_call",
                "value": '{"name": "weather", "arguments": {"city": "Oslo"}}',
            },
            {"from": "observation", "value": "rain"},
            {"from": "gpt", "value": "Yes.", "weight": 1},
        ],
    }
    assert converted("sharegpt", row) == {
        "messages": [
            said("system", "Be brief."),
            said("user", "Rain?"),
            said("assistant", "", tool_calls=[CALL]),
            said("tool", "rain"),
            said("assistant", "Yes.", weight=1.0),
        ],
        "tools": [TOOL],
    }


def test_a_system_column_that_differs_from_the_system_turn_is_refused() -> None:
    turns = [
        {"from": "system", "value": "own"},
        {"from": "user", "value": "a"},
        {"from": "bot", "value": "b"},
    ]
    own = {"messages": [said("system", "own"), said("user", "a"), said("assistant", "b")]}
    row = {"conversations": turns, "system": "other", "tools": ""}
    with pytest.raises(RowError, match="system message twice: in column “system”"):
        converted("sharegpt", row)
    assert converted("sharegpt", row, system_column="") == own
    assert converted("sharegpt", {**row, "system": " own"}) == own


@pytest.mark.parametrize("spelling", ["human", "user", "prompter", "Human ", "USER"])
@pytest.mark.parametrize("format_id", ["messages", "sharegpt"])
def test_role_names_in_every_spelling(format_id: str, spelling: str) -> None:
    """A project that chose the chat format for from and value keeps working."""
    row = {"conversations": [{"from": spelling, "value": "a"}, {"from": "chatgpt", "value": "b"}]}
    assert converted(format_id, row) == {"messages": [said("user", "a"), said("assistant", "b")]}


def test_own_names_of_columns_and_keys() -> None:
    row = {"talk": [{"who": "user", "what": "a"}, {"who": "model", "what": "b"}], "messages": 1}
    settings = {"messages_column": "talk", "role_key": "who", "content_key": "what"}
    wanted = {"messages": [said("user", "a"), said("assistant", "b")]}
    assert converted("messages", row, **settings) == wanted
    settings["conversations_column"] = settings.pop("messages_column")
    assert converted("sharegpt", row, **settings) == wanted


def test_an_answer_first_and_two_questions_in_a_row_are_kept_as_they_are() -> None:
    row = {
        "messages": [
            said("assistant", "hi"),
            said("user", "a"),
            said("user", "b"),
            said("assistant", "c"),
        ]
    }
    assert converted("messages", row) == row


def test_prompts_and_completions_of_messages_learn_only_the_completion() -> None:
    row = {
        "prompt": [said("user", "a"), said("assistant", "b"), said("user", "c")],
        "completion": [said("assistant", "d")],
    }
    wanted = [
        said("user", "a"),
        said("assistant", "b", weight=0.0),
        said("user", "c"),
        said("assistant", "d"),
    ]
    assert converted("prompt_completion", row) == {"messages": wanted}
    assert converted("kto", {**row, "label": 0}) == {"messages": wanted, "label": False}
    mixed = converted("prompt_completion", {"prompt": "a", "completion": [said("assistant", "b")]})
    assert mixed == {"messages": [said("user", "a"), said("assistant", "b")]}
