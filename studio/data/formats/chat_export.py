"""The chat export format: ``conversations.json`` as exported by ChatGPT and by Claude.

A conversation of ChatGPT is a tree of messages; the path to the message that was shown last is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import has_content, unused_keys
from studio.data.conversation import Message, answered
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
    judged,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings

_TREE, _LIST = "mapping", "chat_messages"
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "system": "system"}
_DESCRIBING = (
    *(_TREE, _LIST, "current_node", "title", "name", "summary", "account", "moderation_results"),
    *("plugin_ids", "gizmo_id", "safe_urls", "is_archived", "is_starred", "default_model_slug"),
)
"""The keys of an exported conversation that are used, or that describe it."""
_USED = frozenset(["sender", "text", "content", "uuid", "index", "created_at", "updated_at"])


class ChatExportSettings(Settings):
    """The format has no settings."""


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a tree of messages, or a list of messages with a sender."""
    if _TREE in columns and any(_is_tree(r.get(_TREE)) for r in rows):
        reason = "the column mapping holds trees of messages, as ChatGPT exports them"
        return judged(0.98, reason, rows, lambda r: _is_tree(r.get(_TREE)))
    if _LIST in columns and any(_is_list(r.get(_LIST)) for r in rows):
        reason = "the column chat_messages holds messages with a sender, as Claude exports them"
        return judged(0.98, reason, rows, lambda r: isinstance(r.get(_LIST), list))
    return NOT_MINE


def _is_tree(value: Any) -> bool:
    nodes = list(value.values()) if isinstance(value, Mapping) else []
    return bool(nodes) and all(isinstance(n, Mapping) and "children" in n for n in nodes)


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, Mapping) and "sender" in m for m in value)
    )


def convert(row: Row, settings: ChatExportSettings) -> Canonical:
    """The messages of the conversation."""
    del settings
    if _is_tree(row.get(_TREE)):
        messages = [m for node in _path(row) if (m := _node_message(node)) is not None]
        return {"messages": answered(messages, _TREE)}
    given = row.get(_LIST)
    if not isinstance(given, list):
        raise RowError(
            "is neither a conversation exported by ChatGPT nor one by Claude",
            "Choose another format, or remove the row.",
            column=_TREE,
            code="not_messages",
        )
    messages = [m for i, g in enumerate(given, 1) if (m := _list_message(g, i)) is not None]
    return {"messages": answered(messages, _LIST)}


def _path(row: Row) -> list[Mapping[str, Any]]:
    """The nodes from the first message to the one that was shown last."""
    nodes: Mapping[str, Any] = row[_TREE]
    last = row.get("current_node")
    if not isinstance(last, str) or last not in nodes:
        last = next((k for k in reversed(list(nodes)) if not nodes[k].get("children")), None)
    found: list[Mapping[str, Any]] = []
    while isinstance(last, str) and last in nodes and len(found) < len(nodes):
        found.append(nodes[last])
        last = nodes[last].get("parent")
    return found[::-1]


def _node_message(node: Mapping[str, Any]) -> Message | None:
    """The message of a node; ``None`` for nodes without text, such as hidden ones."""
    given = node.get("message")
    if not isinstance(given, Mapping):
        return None
    author, content = given.get("author"), given.get("content")
    role = str(author.get("role")) if isinstance(author, Mapping) else ""
    if not isinstance(content, Mapping):
        return None
    parts: list[Any] = (
        _listed(content.get("parts")) if "parts" in content else [content.get("text")]
    )
    parts = [p for p in parts if has_content(p)]
    if not parts or role not in _ROLES:
        return None
    for part in parts:
        if not isinstance(part, str):
            kind = part.get("content_type", "an object") if isinstance(part, Mapping) else part
            raise RowError(
                f"has a part “{kind}” in a message of the {_ROLES[role]}, where only text can be trained"[
                    :300
                ],
                "Remove the conversation.",
                column=_TREE,
                code="not_text",
            )
    text = as_text("\n".join(parts), f"a message of the {_ROLES[role]}", _TREE)
    return {"role": _ROLES[role], "content": text}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _list_message(given: Any, number: int) -> Message | None:
    place = f"message {number} of column “{_LIST}”"
    role = _ROLES.get(str(given.get("sender"))) if isinstance(given, Mapping) else None
    if role is None:
        raise RowError(
            f"has no known sender in {place}",
            "The sender is human or assistant; remove the row.",
            column=_LIST,
            code="unknown_role",
        )
    text = given.get("text")
    if not has_content(text):
        parts = [p for p in _listed(given.get("content")) if isinstance(p, Mapping)]
        text = "\n".join(str(p["text"]) for p in parts if has_content(p.get("text")))
    if not has_content(text):
        return None  # a message that was cancelled, or that has only attachments (see ``unused``)
    return {"role": role, "content": as_text(text, place, _LIST)}


def unused(row: Row, settings: ChatExportSettings) -> list[str]:
    """The other branches and tool messages of ChatGPT, attachments of Claude."""
    del settings
    if _is_tree(row.get(_TREE)):
        used = {id(node) for node in _path(row)}
        nodes = [n for n in row[_TREE].values() if isinstance(n.get("message"), Mapping)]
        found = []
        if any(id(n) not in used and _said(n) for n in nodes):
            found.append("mapping: other branches")
        if any(id(n) in used and _said(n) and _node_message(n) is None for n in nodes):
            found.append("mapping: messages of tools")
        return found
    return [f"{_LIST}[].{key}" for key in unused_keys(_listed(row.get(_LIST)), _USED)]


def _said(node: Mapping[str, Any]) -> bool:
    content = node["message"].get("content")
    return isinstance(content, Mapping) and (
        has_content(content.get("parts")) or has_content(content.get("text"))
    )


VARIANT = Variant(
    kind="format",
    id="chat_export",
    title="Chat export (ChatGPT, Claude)",
    order=16,
    help="The file conversations.json of an export by ChatGPT or Claude. Of a conversation with several "
    "branches, the one shown last is used.",
    settings=ChatExportSettings,
    payload=RowFormat(detect, convert, used=lambda settings: _DESCRIBING, unused=unused),
)
