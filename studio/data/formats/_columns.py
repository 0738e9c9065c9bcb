"""Columns that several formats share: their common names, and those beside question and answer (system
message, earlier turns, tools, reasoning).

Each list starts with the most usual name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from studio.data.columns import OBJECT, has_content, is_switch, named, unused_keys
from studio.data.conversation import (
    Message,
    inline_thought,
    message_keys,
    messages_in,
    text_in,
    tools_beside,
    unused_message_keys,
)
from studio.data.row_format import (
    Canonical,
    Row,
    RowError,
    as_text,
    kind_of,
    listed,
    optional_column,
)
from studio.data.tool_blocks import is_plain
from studio.data.tool_calls import tools_in
from studio.graph.schema import Settings, setting

CONVERSATION = ("conversations", "conversation", "messages", "dialog", "chat")
PROMPT = ("prompt", "question", "instruction", "query", "input")
_SYSTEM = (
    *("system_prompt", "system_message", "system_instruction", "system_instructions", "sys_prompt"),
    *("developer_message", "developer_prompt", "instructions"),
)
_HISTORY = (
    *("chat_history", "conversation_history", "dialog_history", "dialogue_history"),
    *("message_history", "history_messages", "previous_turns", "past_turns", "previous_messages"),
)
_TOOLS = ("functions", "available_tools", "tool_definitions", "tool_config")
_REASONING = (
    "reasoning_content",
    "thinking",
    "thoughts",
    "thought",
    "cot",
    "complex_cot",
    "chain_of_thought",
    "rationale",
    "reasoning_trace",
    "thinking_trajectory",
    "deepseek_reasoning",
)
_TURN = (
    ("question", "user", "human", "prompt", "query", "input", "instruction"),
    ("answer", "assistant", "bot", "gpt", "ai", "response", "output", "completion"),
)
BESIDE = {
    "system_column": _SYSTEM,
    "history_column": _HISTORY,
    "tools_column": _TOOLS,
    "reasoning_column": _REASONING,
}
"""The settings of ``BesideSettings`` with other names that are also accepted."""


class SystemSettings(Settings):
    """The name of the column with a system message, where a row has one."""

    system_column: str = setting(
        "system",
        "System column",
        "Column with a system message. May be missing. Also detected: “system_prompt”, "
        "“system_message” and similar names. Leave empty to ignore such columns.",
        max_length=200,
        advanced=True,
    )


class BesideSettings(SystemSettings):
    """Names of the columns beside question and answer, where a row has them."""

    history_column: str = setting(
        "history",
        "History column",
        "Column with earlier turns: a list of [question, answer] pairs or of messages. May be "
        "missing. Also detected: “chat_history”, “conversation_history” and similar names. Leave "
        "empty to ignore such columns.",
        max_length=200,
        advanced=True,
    )
    tools_column: str = setting(
        "tools",
        "Tools column",
        "Column with the tools that the model may call: a list or JSON text. May be missing. Also "
        "detected: “functions”, “available_tools” and “tool_definitions”. Leave empty to ignore "
        "such columns.",
        max_length=200,
        advanced=True,
    )
    reasoning_column: str = setting(
        "reasoning",
        "Reasoning column",
        "Column with the reasoning before the last answer. May be missing. Also detected: "
        "“reasoning_content”, “thinking”, “thoughts”, “cot”, “chain_of_thought”, “rationale” and "
        "“Complex_CoT”. Leave empty to ignore such columns.",
        max_length=200,
        advanced=True,
    )


def other_names(names: tuple[str, ...], usual: str) -> tuple[str, ...]:
    """The names without the ``usual`` one, which is the default of the format's setting."""
    return tuple(name for name in names if name != usual)


def with_columns_beside(
    row: Row, settings: BesideSettings, messages: Sequence[Message], *turns: str
) -> Canonical:
    """The conversation with system message, earlier turns, tools and reasoning of the row; messages of
    the columns ``turns`` may offer tools, too."""
    system, history, tools, reasoning = _found(row, settings)
    made = [*_history(row, history), *messages] if history else list(messages)
    made = with_system(row, system, made)
    _add_reasoning(row, reasoning, made)
    offered = _offered(row, tools, [*turns, *([history] if history else ())])
    return {"messages": made, "tools": offered} if offered else {"messages": made}


def _offered(row: Row, name: str | None, turns: Sequence[str]) -> list[Any] | None:
    """The tools of column ``name``, or those that the messages in columns ``turns`` offer."""
    offered = tools_in(row[name], name) if name else None
    for column in turns:
        found = tools_beside(row[column], column)
        if found and offered and found != offered:
            raise RowError(
                f"offers different tools in columns “{name}” and “{column}”",
                "Keep one list of tools, or correct the row.",
                column=column,
                code="several_tools",
            )
        offered, name = offered or found, name if offered else column
    return offered


def unused_beside(row: Row, settings: BesideSettings) -> list[str]:
    """The keys of earlier turns that ``with_columns_beside`` does not use."""
    _, name, _, reasoning = _found(row, settings)
    switch = reasoning is not None and has_content(row[reasoning]) and is_switch(row[reasoning])
    left = [f"{reasoning}: a setting, not a thought"] if switch else []
    if name is None or not has_content(row[name]):
        return left
    if message_keys(row[name]) is not None:
        return left + unused_message_keys(row[name], name)
    return left + unused_turn_keys(row[name], name)


def unused_turn_keys(value: Any, name: str) -> list[str]:
    """The keys of pairs of question and answer that are not used, as ``name[].key``."""
    pairs = [p for p in listed(value) or () if isinstance(p, Mapping)]
    used = frozenset(key for pair in pairs for key in _keys_of_turn(pair))
    return [f"{name}[].{key}" for key in unused_keys(pairs, used)]


def are_turns(value: Any) -> bool:
    """Whether a value is a list of objects with a question and its answer each."""
    pairs = listed(value) or []
    if not pairs or is_plain(pairs[0]):  # a message, as in most lists
        return False
    return all(isinstance(p, OBJECT) and len(_keys_of_turn(p)) == 2 for p in pairs)


def turns_of(value: Any, name: str) -> list[Message]:
    """The messages of a list of pairs of question and answer."""
    pairs = listed(value) or []
    return [m for i, pair in enumerate(pairs, start=1) for m in _pair(pair, i, name)]


def _keys_of_turn(pair: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of question and answer."""
    return _turn_in(tuple(pair))


@lru_cache(maxsize=1024)
def _turn_in(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for names in _TURN if (key := named(keys, names[0], names[1:])))


def columns_beside(row: Row, settings: BesideSettings) -> list[str]:
    """The columns of a row that ``with_columns_beside`` would use, as far as they hold anything."""
    return [name for name in _found(row, settings) if name and has_content(row[name])]


def _found(row: Row, settings: BesideSettings) -> tuple[str | None, ...]:
    """The columns of ``BESIDE`` that a row has, in their order."""
    named = (
        settings.system_column,
        settings.history_column,
        settings.tools_column,
        settings.reasoning_column,
    )
    return _columns_beside(tuple(row), named)


@lru_cache(maxsize=1024)
def _columns_beside(columns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str | None, ...]:
    settings = BesideSettings(**dict(zip(BESIDE, names, strict=True)))
    return tuple(optional_column(columns, settings, field, BESIDE[field]) for field in BESIDE)


def with_system(row: Row, name: str | None, messages: list[Message]) -> list[Message]:
    """The messages after the system message in column ``name``; raises ``RowError`` for a second one."""
    preamble = text_in(row[name], name) if name else ""
    if not preamble.strip():
        return messages
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"].strip() == preamble.strip():
            return messages
        raise _given_twice("system message", name or "", "system_column")
    return [{"role": "system", "content": preamble}, *messages]


def _add_reasoning(row: Row, name: str | None, messages: list[Message]) -> None:
    thoughts = text_in(row[name], name) if name and not is_switch(row[name]) else ""
    if not thoughts.strip():
        return
    index = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    inline = inline_thought(messages[index]["content"])
    given = messages[index].get("reasoning_content") or inline
    if given and given.strip() != thoughts.strip():
        raise _given_twice("reasoning of the last answer", name or "", "reasoning_column")
    if inline:
        return
    messages[index] = {**messages[index], "reasoning_content": thoughts}


def _given_twice(what: str, name: str, field: str) -> RowError:
    title = BesideSettings.model_fields[field].title
    return RowError(
        f"has the {what} twice: in column “{name}” and, with other words, in its messages",
        f"Leave “{title}” empty in the format settings to use the messages, or correct the row.",
        column=name,
        code="given_twice",
    )


# ------------------------------------------------------------------ earlier turns


def _history(row: Row, name: str | None) -> list[Message]:
    """The earlier turns of a row."""
    value = row[name] if name else None
    if name is None or not has_content(value):
        return []
    if message_keys(value) is not None:
        return messages_in(value, name)
    if listed(value) is None:
        raise _bad_history(f"has {kind_of(value)} in column “{name}”", name)
    texts = listed(value) or []
    if len(texts) % 2 == 0 and all(isinstance(t, str) for t in texts):
        value = list(zip(texts[::2], texts[1::2], strict=True))  # question and answer in turn
    return turns_of(value, name)


def _pair(pair: Any, number: int, name: str) -> list[Message]:
    place = f"turn {number} of column “{name}”"
    if isinstance(pair, Mapping):
        pair = [pair[key] for key in _keys_of_turn(pair)]
    if not isinstance(pair, (list, tuple)):
        raise _bad_history(f"has {kind_of(pair)} in {place}", name)
    if len(pair) != 2:
        texts = "1 text" if len(pair) == 1 else f"{len(pair)} texts"
        raise _bad_history(f"has {texts} in {place}", name)
    said = [as_text(t, place, name) for t in pair]
    return [{"role": r, "content": c} for r, c in zip(("user", "assistant"), said, strict=True)]


def _bad_history(what: str, name: str) -> RowError:
    return RowError(
        f"{what}, where a pair of question and answer belongs",
        "Write turns as [[question, answer], …] or as messages; leave “History column” empty to ignore "
        "earlier turns.",
        column=name,
        code="bad_history",
    )
