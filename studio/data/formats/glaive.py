"""The Glaive format: a conversation with function calls as one text, with the marks SYSTEM:, USER:,
ASSISTANT: and FUNCTION RESPONSE:.

The functions in the system message become tools, and each ``<functioncall>`` becomes a tool call, so that
the chat template writes them as the model knows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from studio.data.columns import named
from studio.data.conversation import Message, answered, text_in
from studio.data.formats._columns import BESIDE, SystemSettings
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    column,
    judged,
    optional_column,
    text,
)
from studio.data.tool_calls import calls_in, tools_in
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_CHAT, _SYSTEM = ("sample",), BESIDE["system_column"]
COLUMNS = {"chat_column": _CHAT, "system_column": _SYSTEM}
_TURN = re.compile(r"(?:\A|\n)\s*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):")
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_END = "<|endoftext|>"
_CALL = re.compile(r"<functioncall>\s*(?P<call>\{.*\})\s*\Z", re.DOTALL)
_QUOTED = re.compile(r"""("arguments"\s*:\s*)'(?P<json>.*)'(\s*\})\Z""", re.DOTALL)


class GlaiveSettings(SystemSettings):
    """Names of the columns."""

    chat_column: str = setting(
        "chat",
        "Chat column",
        "Column with the conversation as one text. Also detected: “sample”.",
        min_length=1,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a text of turns by USER: and ASSISTANT:."""
    name = named(columns, "chat", _CHAT)
    if name is None:
        return NOT_MINE
    reason = f"the column {name} holds conversations with USER: and ASSISTANT:, as in Glaive's data"
    return judged(0.9, reason, rows, lambda r: _is_chat(r.get(name)))


def _is_chat(value: Any) -> bool:
    marks = _TURN.findall(value) if isinstance(value, str) else []
    return "USER" in marks and "ASSISTANT" in marks


def convert(row: Row, settings: GlaiveSettings) -> Canonical:
    """The turns as messages, and the functions as tools."""
    name = column(row, settings, "chat_column", _CHAT)
    before, *turns = _TURN.split(text(row, name))
    if before.strip() or not turns:
        raise RowError(
            f"does not begin with USER: or SYSTEM: in column “{name}”",
            "Correct or remove the row, or choose another format.",
            column=name,
            code="not_messages",
        )
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    described = optional_column(row, settings, "system_column", _SYSTEM)
    system = text_in(row[described], described).strip().removeprefix("SYSTEM:") if described else ""
    if pairs[0][0] == "SYSTEM":
        system += pairs.pop(0)[1]
    head, tools = _functions(system, described or name)
    messages: list[Message] = [{"role": "system", "content": head}] if head else []
    for number, (mark, said) in enumerate(pairs, start=1):
        messages.append(_message(mark, said, f"turn {number} of column “{name}”", name))
    made: Canonical = {"messages": answered(messages, name)}
    return {**made, "tools": tools} if tools else made


def _functions(system: str, name: str) -> tuple[str, list[Any] | None]:
    """The system message without the functions at its end, and the functions."""
    start = system.find("{")
    if start < 0:
        return system.strip(), None
    try:
        return system[:start].strip(), tools_in(list(_objects(system[start:])), name)
    except ValueError as error:
        raise RowError(
            f"contains functions that are not valid JSON in column “{name}” ({error})",
            "Correct or remove the row.",
            column=name,
            code="bad_tools",
        ) from error


def _objects(described: str) -> Iterator[Any]:
    """The JSON objects that follow one another in a text."""
    decoder = json.JSONDecoder()
    while described := described.strip():
        found, end = decoder.raw_decode(described)
        yield found
        described = described[end:]


def _message(mark: str, said: str, place: str, name: str) -> Message:
    role = _ROLES.get(mark)
    content = said.strip().removesuffix(_END).strip()
    if role is None or not content or _END in content:
        what = "a second system message" if role is None else "no text" if not content else _END
        raise RowError(
            f"has {what} in {place}", "Correct or remove the row.", column=name, code="not_messages"
        )
    call = _CALL.search(content) if role == "assistant" else None
    if call is None and role == "assistant" and "<functioncall>" in content:
        raise RowError(
            f"calls a function in {place} in a way that cannot be read",
            "A call is <functioncall> and a JSON object at the end of the turn: correct or remove the row.",
            column=name,
            code="bad_tool_call",
        )
    if call is None:
        return {"role": role, "content": content}
    return {
        "role": role,
        "content": content[: call.start()].strip(),
        "tool_calls": calls_in(_unquoted(call["call"]), place, name),
    }


def _unquoted(call: str) -> str:
    """The call as JSON: its arguments stand as JSON between single quotes."""
    return _QUOTED.sub(lambda m: m[1] + m["json"].replace(r"\'", "'") + m[3], call)


VARIANT = Variant(
    kind="format",
    id="glaive",
    title="Function calls as text (Glaive)",
    order=15,
    help="Columns system and chat with one text per conversation: USER:, ASSISTANT:, <functioncall> and "
    "FUNCTION RESPONSE:.",
    settings=GlaiveSettings,
    payload=RowFormat(detect, convert, COLUMNS),
)
