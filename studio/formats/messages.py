"""The chat format: a list of messages, as OpenAI writes them or as ShareGPT does.

Why one file for both: they differ only in the names of two keys and of the roles, which are found
by looking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from studio.formats._format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
    column,
    named,
    optional_column,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_COLUMNS = ("conversations", "conversation", "dialog", "chat")
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value")
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
"""Names of roles in the wild -> the four that a chat template knows."""


class MessagesSettings(Settings):
    """Names of the column and of the keys inside a message."""

    messages_column: str = setting(
        "messages", "Messages column", "The list of messages. “conversations”, “conversation”, “dialog” "
        "and “chat” are found too.", min_length=1, max_length=200,
    )  # fmt: skip
    role_key: str = setting(
        "role", "Role key", "Who speaks. “from”, as ShareGPT writes it, is found too.",
        min_length=1, max_length=200, advanced=True,
    )  # fmt: skip
    content_key: str = setting(
        "content", "Content key", "What is said. “value”, as ShareGPT writes it, is found too.",
        min_length=1, max_length=200, advanced=True,
    )  # fmt: skip


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a list of messages that have a role and a content."""
    name = named(columns, "messages", _COLUMNS)
    if name is None:
        return NOT_MINE
    first = next((m for m in (_listed(r.get(name)) for r in rows) if m), None)
    keys = tuple(first[0]) if first and isinstance(first[0], Mapping) else ()
    role, content = named(keys, *_split(_ROLE_KEYS)), named(keys, *_split(_CONTENT_KEYS))
    if role is None or content is None:
        return NOT_MINE
    return Detection(1.0, f"the column {name} holds messages with {role} and {content}")


def _split(names: Sequence[str]) -> tuple[str, Sequence[str]]:
    return names[0], names[1:]


def _listed(value: Any) -> list[Any] | None:
    """The list of messages; CSV and Parquet often hold it as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def convert(row: Row, settings: MessagesSettings) -> Canonical:
    """The messages with the roles that chat templates know."""
    name = column(row, settings, "messages_column", _COLUMNS)
    listed = _listed(row[name])
    if listed is None:
        raise RowError(
            f"has no list of messages in column “{name}”",
            "Each row needs a list of objects with role and content.", column=name, code="not_messages",
        )  # fmt: skip
    messages = [_message(m, i, name, settings) for i, m in enumerate(listed, start=1)]
    if not any(m["role"] == "assistant" for m in messages):
        raise RowError(
            f"has no answer: none of the {len(messages)} messages is the assistant's",
            "Add an assistant message, or remove the row.", column=name, code="no_answer",
        )  # fmt: skip
    return {"messages": messages}


def _message(given: Any, number: int, name: str, settings: MessagesSettings) -> dict[str, str]:
    place = f"message {number} of column “{name}”"
    if not isinstance(given, Mapping):
        raise RowError(
            f"has no object in {place}", "Write each message as an object with role and content.",
            column=name, code="not_messages",
        )  # fmt: skip
    role = _role(_value(given, settings, "role_key", _ROLE_KEYS, place, name), place, name)
    content = _value(given, settings, "content_key", _CONTENT_KEYS, place, name)
    plain = as_text(_joined(content), place, name, empty=role == "system")
    return {"role": role, "content": plain}


def _value(
    given: Row, settings: Settings, field: str, usual: Sequence[str], place: str, name: str
) -> Any:
    key = optional_column(given, settings, field, usual)
    if key is None:
        wanted, there = getattr(settings, field), ", ".join(given) or "none"
        raise RowError(
            f"lacks “{wanted}” in {place}; the keys there are {there}",
            "Name the right key in the format settings.", column=name, code="missing_column",
        )  # fmt: skip
    return given[key]


def _role(given: Any, place: str, name: str) -> str:
    role = ROLES.get(given.strip().lower()) if isinstance(given, str) else None
    if role is None:
        raise RowError(
            f"has the unknown role {given!r} in {place}",
            "Use system, user, assistant or tool.", column=name, code="unknown_role",
        )  # fmt: skip
    return role


def _joined(content: Any) -> Any:
    """A list of text parts as one text; anything else as it is."""
    if not isinstance(content, list) or not content:
        return content
    parts = [p.get("text") if isinstance(p, Mapping) else None for p in content]
    texts = [p for p in parts if isinstance(p, str)]
    return "".join(texts) if len(texts) == len(parts) else content


VARIANT = Variant(
    kind="format", id="messages", title="Chat messages", order=10,
    help="A list of messages with role and content, or with from and value as in ShareGPT.",
    settings=MessagesSettings, payload=RowFormat(detect, convert),
)  # fmt: skip
