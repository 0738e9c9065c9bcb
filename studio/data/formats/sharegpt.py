"""The ShareGPT format: conversations with from and value.

Its roles are human, gpt, system, observation, function_call and similar ones. A function_call turn
becomes an assistant message with tool calls, an observation a tool message.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.columns import named
from studio.data.conversation import (
    answered,
    message_keys,
    messages_in,
    unused_message_keys,
)
from studio.data.formats._columns import (
    BESIDE,
    CONVERSATION,
    BesideSettings,
    other_names,
    unused_beside,
    with_columns_beside,
)
from studio.data.message_names import Keys
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_CONVERSATIONS = other_names(CONVERSATION, "conversations")
_KEYS = Keys(("from", "role"), ("value", "content"))
COLUMNS = {"conversations_column": _CONVERSATIONS, **BESIDE}


class ShareGptSettings(BesideSettings):
    """Names of the columns and of the keys inside a turn."""

    conversations_column: str = setting(
        "conversations",
        "Conversations column",
        "Column with the list of turns. Also detected: “conversation”, “messages”, "
        "“dialog” and “chat”.",
        min_length=1,
        max_length=200,
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
    messages = answered(
        messages_in(row[name], name, _KEYS.chosen(settings.role_key, settings.content_key)), name
    )
    return with_columns_beside(row, settings, messages, name)


def unused(row: Row, settings: ShareGptSettings) -> list[str]:
    """The keys of the turns that are not used."""
    name = column(row, settings, "conversations_column", _CONVERSATIONS)
    keys = unused_message_keys(
        row[name], name, _KEYS.chosen(settings.role_key, settings.content_key)
    )
    return [*keys, *unused_beside(row, settings)]


VARIANT = Variant(
    kind="format",
    id="sharegpt",
    title="Conversations (ShareGPT)",
    order=12,
    help="A column “conversations” with a list of {from, value}: human, gpt, system, function_call and "
    "observation.",
    settings=ShareGptSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
