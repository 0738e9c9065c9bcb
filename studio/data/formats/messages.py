"""The chat format: a list of messages with role and content, as in the OpenAI API.

Tools, tool calls, names and weights of messages are kept. ShareGPT lists are also accepted, because
older projects use this format for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

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
    are_turns,
    other_names,
    turns_of,
    unused_beside,
    unused_turn_keys,
    with_columns_beside,
)
from studio.data.message_names import USUAL
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    judged,
    listed,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_MESSAGES = (*other_names(CONVERSATION, "messages"), "dialogue", "turns", "contents", "data")
_TURNS = ("user", "assistant")
COLUMNS = {"messages_column": _MESSAGES, **BESIDE}


class MessagesSettings(BesideSettings):
    """Names of the columns and of the keys inside a message."""

    messages_column: str = setting(
        "messages",
        "Messages column",
        "Column with the list of messages. Also detected: “conversations”, “conversation”, "
        "“dialog”, “chat”, “dialogue”, “turns”, “contents” and “data”.",
        min_length=1,
        max_length=200,
    )
    role_key: str = setting(
        "role",
        "Role key",
        "Key of the speaker. Also detected: “from”, as in ShareGPT.",
        min_length=1,
        max_length=200,
        advanced=True,
    )
    content_key: str = setting(
        "content",
        "Content key",
        "Key of the text. Also detected: “value”, as in ShareGPT.",
        min_length=1,
        max_length=200,
        advanced=True,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a list of messages that have a role and a content."""
    name = named(columns, "messages", _MESSAGES)
    if name is None:
        return NOT_MINE
    keys = next((k for k in (message_keys(r.get(name)) for r in rows) if k), None)
    if keys is None and any(_texts(r.get(name)) for r in rows):
        reason = f"the column {name} holds lists of texts, taken as question and answer in turn"
        return judged(0.6, reason, rows, lambda r: bool(_texts(r.get(name))))
    if keys is None and any(are_turns(r.get(name)) for r in rows):
        reason = f"the column {name} holds lists of questions with their answers"
        return judged(0.6, reason, rows, lambda r: are_turns(r.get(name)))
    if keys is None:
        return NOT_MINE
    sure = 0.97 if keys == ("role", "content") else 0.6
    return Detection(sure, f"the column {name} contains messages with {keys[0]} and {keys[1]}")


def convert(row: Row, settings: MessagesSettings) -> Canonical:
    """The messages with the roles that chat templates know."""
    name = column(row, settings, "messages_column", _MESSAGES)
    found = listed(row[name])
    if are_turns(found):
        return with_columns_beside(row, settings, turns_of(found, name))
    given = [{"role": r, "content": t} for r, t in zip(itertools.cycle(_TURNS), _texts(found))]
    keys = USUAL.chosen(settings.role_key, settings.content_key)
    value = row[name] if found is None else found  # a list in JSON text is parsed once
    messages = answered(messages_in(given or value, name, keys), name)
    return with_columns_beside(row, settings, messages, name)


def _texts(value: Any) -> list[str]:
    """A list of texts as in UltraChat: question and answer in turn; empty for anything else."""
    found = listed(value) or []
    if len(found) < 2 or not isinstance(found[0], str):
        return []
    return found if all(isinstance(t, str) for t in found) else []


def unused(row: Row, settings: MessagesSettings) -> list[str]:
    """The keys of the messages that are not used."""
    name = column(row, settings, "messages_column", _MESSAGES)
    found = listed(row[name])
    if are_turns(found):
        return [*unused_turn_keys(found, name), *unused_beside(row, settings)]
    keys = unused_message_keys(found, name, USUAL.chosen(settings.role_key, settings.content_key))
    return [*keys, *unused_beside(row, settings)]


VARIANT = Variant(
    kind="format",
    id="messages",
    title="Chat messages (OpenAI)",
    order=10,
    help="A column “messages” with a list of {role, content}: system, user, "
    "assistant and tool. Tool calls and message weights are supported.",
    settings=MessagesSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
