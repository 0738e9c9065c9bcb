"""Thoughts before answers: they are trained as plain transformers renders them, or it is said that the
chat template leaves them out."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import template
from studio.data.canonical import messages_of, to_arrow, tools_of
from studio.graph.registry import load_registry
from studio.training.tokens.masks import render_row
from tests.tiny import make_tiny_tokenizer

THOUGHT = "Two plus two makes four."
QUESTION = {"role": "user", "content": "Two and two?"}
AGAIN = {"role": "user", "content": "And three?"}


@lru_cache(maxsize=64)
def source_of(name: str) -> str:
    """A template of TRL, which are those of the models; or one of the library."""
    found = importlib.util.find_spec("trl")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / "chat_templates" / f"{name}.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else template(name).source


def tokenizer_with(name: str) -> Any:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = source_of(name)
    return tokenizer


def stored(messages: list[dict[str, Any]], tools: Any = None) -> dict[str, Any]:
    """The row as the Dataset step stores it."""
    variant = load_registry().variants["format"]["messages"]
    given = {"messages": messages, **({"tools": tools} if tools else {})}
    row = variant.payload.convert(given, variant.settings())
    return to_arrow({**row, "line": 1, "source": "rows.jsonl"})


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def inline(thought: str, content: str) -> dict[str, Any]:
    return said(f"<think>\n{thought}\n</think>\n\n{content}")


def trained(name: str, row: dict[str, Any], train_on: str = "answers") -> list[list[str]]:
    """The trained pieces of each text."""
    texts = render_row(tokenizer_with(name), row, train_on)
    return [[t.text[a:b] for a, b in t.spans] for t in texts]


READS_THOUGHTS = ["qwen3", "qwen3_6", "glm4moe", "gptoss", "nemotron_3_nano", "lfm2_2_5", "qwen-3"]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("name", READS_THOUGHTS)
def test_the_text_is_the_one_of_transformers(name: str, key: str) -> None:
    tokenizer = tokenizer_with(name)
    (text,) = render_row(tokenizer, stored([QUESTION, said("4", **{key: THOUGHT})]))
    given = [QUESTION, said("4", reasoning_content=THOUGHT, thinking=THOUGHT)]
    assert text.text == tokenizer.apply_chat_template(given, tokenize=False)
    ((start, end),) = text.spans
    assert THOUGHT in text.text[start:end]


@pytest.mark.parametrize("short", ["4", "yes", "No.", "B", "0.5", "是"])
@pytest.mark.parametrize("name", ["qwen3", "qwen-3", "glm4moe"])
def test_short_answers_after_thoughts_are_one_row_each(name: str, short: str) -> None:
    row = stored([QUESTION, inline("Hm.", short), AGAIN, inline("Well.", short)])
    (first,), (second,) = trained(name, row)
    assert "Hm." in first
    assert "Well." in second
    assert short in first
    assert short in second
    assert trained(name, stored([QUESTION, said(short, thinking="Hm.")]))[0][0] == first


CALL = {"type": "function", "function": {"name": "w", "arguments": {"c": "Oslo"}}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "w",
            "description": "d",
            "parameters": {"type": "object", "properties": {"c": {"type": "string"}}},
        },
    }
]
TOOL = {"role": "tool", "content": "3", "name": "w"}


@pytest.mark.parametrize("key", ["reasoning_content", "content"])
def test_a_thought_before_a_tool_call_of_gpt_oss(key: str) -> None:
    """One row per answer, each after the text that the model has at that moment."""
    call = {**said("", tool_calls=[CALL]), key: "I need the tool."}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        call,
        TOOL,
        said("It is 3 degrees.", reasoning_content="The tool says 3."),
    ]
    row = stored(messages, TOOLS)
    tokenizer = tokenizer_with("gptoss")
    texts = render_row(tokenizer, row)
    given, tools = messages_of(row), tools_of(row)
    for text, count in zip(texts, (1, 3), strict=True):
        ((start, end),) = text.spans
        assert end == len(text.text)
        asked = tokenizer.apply_chat_template(
            given[:count], tools=tools, tokenize=False, add_generation_prompt=True
        )
        assert text.text[:start] == asked
    first, second = (t.text[t.spans[0][0] :] for t in texts)
    assert first == (
        "<|channel|>analysis<|message|>I need the tool.<|end|><|start|>assistant to=functions.w"
        '<|channel|>commentary json<|message|>{"c": "Oslo"}<|call|>'
    )
    assert second == (
        "<|channel|>analysis<|message|>The tool says 3.<|end|><|start|>assistant"
        "<|channel|>final<|message|>It is 3 degrees.<|return|>"
    )
    assert "I need the tool." in texts[1].text


def test_two_calls_with_thoughts_of_gpt_oss() -> None:
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        said("", tool_calls=[CALL], thinking="First."),
        TOOL,
        said("", tool_calls=[CALL], thinking="Once more."),
        TOOL,
        said("It is 3 degrees.", thinking="Done."),
    ]
    texts = [t for (t,) in trained("gptoss", stored(messages, TOOLS))]
    for text, thought in zip(texts, ("First.", "Once more.", "Done."), strict=True):
        assert thought in text


# ------------------------------------------------------------------ arguments of tool calls

WEATHER = {"type": "function", "function": {"name": "w", "arguments": '{"c": "Rome"}'}}
TALK = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call00001", **WEATHER}]},
    {"role": "tool", "tool_call_id": "call00001", "content": "sun"},
    {"role": "assistant", "content": "It is sunny."},
]


@pytest.mark.parametrize(
    "name",
    [
        "deepseekv3",
        "deepseekv3_training",
        "qwen2_5",
        "qwen3",
        "glm4moe",
        "qwen3_5_nothink",
        "llama3_1",
    ],
)
def test_arguments_reach_the_template_as_it_takes_them(name: str) -> None:
    """The text is the one of transformers when it is given the form that the template takes."""
    row = stored(TALK)
    tokenizer = tokenizer_with(name)
    given = messages_of(row)
    if name == "deepseekv3":
        given[1]["tool_calls"][0]["function"]["arguments"] = '{"c": "Rome"}'
    texts = render_row(tokenizer, row)
    counts = [4] if len(texts) == 1 else [2, 4]
    for text, count in zip(texts, counts, strict=True):
        assert text.text == tokenizer.apply_chat_template(given[:count], tokenize=False)
        assert "Rome" in text.text
        assert '\\"Rome' not in text.text
    answers = [t.text[a:b] for t in texts for a, b in t.spans]
    assert "Rome" in answers[0]
    assert "It is sunny." in answers[1]


def test_a_template_that_writes_arguments_as_python_does_is_given_text() -> None:
    tokenizer = tokenizer_with("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (text,) = render_row(tokenizer, stored(TALK))
    assert 'w {"c": "Rome"}' in text.text
    quoted = [{**TALK[0], "content": "Why is it {'c': 'Rome'}?"}, *TALK[1:]]
    (other,) = render_row(tokenizer_with("qwen2_5"), stored(quoted))
    assert '"arguments": {"c": "Rome"}' in other.text


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "qwen-2.5", "qwen-3", "mistral-tekken"])
def test_nulls_in_arguments_are_trained(name: str) -> None:
    arguments = '{"from": "Bern", "to": null, "via": null}'
    call = {"type": "function", "function": {"name": "trains", "arguments": arguments}}
    tool = {
        "name": "trains",
        "parameters": {"type": "object", "properties": {"to": {"default": None}}},
    }
    messages = [QUESTION, said(None, tool_calls=[call]), TOOL, said("There are no trains today.")]
    texts = render_row(tokenizer_with(name), stored(messages, [tool]))
    ((start, end), *_) = texts[0].spans
    assert arguments in texts[0].text[start:end]
    assert '"default": null' in texts[0].text


def test_json_stays_json() -> None:
    """The rows of this file are what a JSONL file holds."""
    row = stored([QUESTION, said("4", thinking=THOUGHT)])
    assert json.loads(row["messages"][1]["extra"]) == {"reasoning_content": THOUGHT}


@pytest.mark.parametrize(
    "written", ['{"c":"Rome"}', '{"c": "Rome", "n": 1.50}', '{ "c": "\\u00e9" }', "{}"]
)
@pytest.mark.parametrize("name", ["deepseekv3", "qwen3", "llama3_1"])
def test_arguments_as_text_are_trained_as_transformers_writes_them(name: str, written: str) -> None:
    """Byte for byte where the template takes text; as its own JSON where it takes objects."""
    call = {"type": "function", "function": {"name": "w", "arguments": written}}
    messages = [TALK[0], said(None, tool_calls=[{"id": "call00001", **call}]), *TALK[2:]]
    row = stored(messages)
    tokenizer = tokenizer_with(name)
    (first, *_) = render_row(tokenizer, row)
    arguments = written if name == "deepseekv3" else json.loads(written)
    given = [
        TALK[0],
        said(
            "", tool_calls=[{"type": "function", "function": {"name": "w", "arguments": arguments}}]
        ),
    ]
    wanted = tokenizer.apply_chat_template(given, tokenize=False)
    assert first.text.startswith(wanted)
    assert "arguments_text" not in first.text
