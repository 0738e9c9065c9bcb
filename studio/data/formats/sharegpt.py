"""The ShareGPT format: conversations with from and value.

Its roles are human, gpt, system, observation, function_call and similar ones. A function_call turn
becomes an assistant message with tool calls, an observation a tool message.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.conversation import Keys, answered, message_keys, messages_in
from studio.data.formats._columns import CONVERSATION, SYSTEM, other_names
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    named,
    optional_column,
    text,
)
from studio.data.tool_calls import tools_in
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_CONVERSATIONS = other_names(CONVERSATION, "conversations")
_SYSTEM = other_names(SYSTEM, "system")
_KEYS = Keys(("from", "role"), ("value", "content"))
COLUMNS = {"conversations_column": _CONVERSATIONS, "system_column": _SYSTEM, "tools_column": ()}


class ShareGptSettings(Settings):
    """Names of the columns and of the keys inside a turn."""

    conversations_column: str = setting(
        "conversations",
        "Conversations column",
        "Column with the list of turns. Also detected: “conversation”, “messages”, "
        "“dialog” and “chat”.",
        min_length=1,
        max_length=200,
    )
    system_column: str = setting(
        "system",
        "System column",
        "Column with a system message. May be missing. Also detected: “system_prompt”.",
        max_length=200,
        advanced=True,
    )
    tools_column: str = setting(
        "tools",
        "Tools column",
        "Column with the tools that the model may call: a list or JSON text. May "
        "be missing. Templates without tool support omit them.",
        max_length=200,
        advanced=True,
    )
    role_key: str = setting(
        "from",
        "Role key",
        "Key of the speaker. Also detected: “role”.",
        min_length=1,
        max_length=200,
        advanced=True,
    )
    content_key: str = setting(
        "value",
        "Content key",
        "Key of the text. Also detected: “content”.",
        min_length=1,
        max_length=200,
        advanced=True,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a list of turns that have from and value."""
    name = named(columns, "conversations", _CONVERSATIONS)
    keys = (
        next((k for k in (message_keys(r.get(name), _KEYS) for r in rows) if k), None)
        if name
        else None
    )
    if keys is None:
        return NOT_MINE
    sure = 0.97 if keys == ("from", "value") else 0.5
    return Detection(sure, f"the column {name} contains turns with {keys[0]} and {keys[1]}")


def convert(row: Row, settings: ShareGptSettings) -> Canonical:
    """The turns as messages with the roles that chat templates know."""
    name = column(row, settings, "conversations_column", _CONVERSATIONS)
    keys = Keys(
        _KEYS.role if settings.role_key == "from" else (settings.role_key,),
        _KEYS.content if settings.content_key == "value" else (settings.content_key,),
    )
    messages = answered(messages_in(row[name], name, keys), name)
    beside = optional_column(row, settings, "system_column", _SYSTEM)
    preamble = text(row, beside, empty=True) if beside else ""
    if preamble and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": preamble})
    tools = optional_column(row, settings, "tools_column")
    offered = tools_in(row[tools], tools) if tools else None
    return {"messages": messages, "tools": offered} if offered else {"messages": messages}


VARIANT = Variant(
    kind="format",
    id="sharegpt",
    title="Conversations (ShareGPT)",
    order=12,
    help="A column “conversations” with a list of {from, value}: human, gpt, system, function_call and "
    "observation.",
    settings=ShareGptSettings,
    payload=RowFormat(detect, convert, COLUMNS),
)
