"""The chat export format: ``conversations.json`` as exported by ChatGPT and by Claude.

A conversation of ChatGPT is a tree of messages; the path to the message that was shown last is used.
What the assistant thought before an answer is kept as its reasoning.
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
_USED_CONTENT = frozenset(
    ["content_type", "parts", "text", "thoughts", "language", "response_format_name", "content"]
)
"""The keys of a content of ChatGPT that are used; “content” says how long the model thought."""


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
        return {"messages": answered(_messages_of(_path(row)), _TREE)}
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


def _messages_of(path: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages of the nodes; thoughts belong to the next answer."""
    messages: list[Message] = []
    thoughts: list[str] = []
    for node in path:
        thoughts += _node_thoughts(node)
        message = _node_message(node)
        if message is None:
            continue
        if message["role"] == "assistant" and thoughts:
            message["reasoning_content"] = "\n\n".join(thoughts)
        thoughts = []
        messages.append(message)
    return messages


def _node_thoughts(node: Mapping[str, Any]) -> list[str]:
    """The thoughts that a node holds instead of a message."""
    content = _content(node)
    given = _listed(content.get("thoughts")) if content else []
    texts = [t.get("content") or t.get("summary") for t in given if isinstance(t, Mapping)]
    return [as_text(t, "a thought", _TREE) for t in texts if has_content(t)]


def _content(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    given = node.get("message")
    content = given.get("content") if isinstance(given, Mapping) else None
    return content if isinstance(content, Mapping) else None


def _node_message(node: Mapping[str, Any]) -> Message | None:
    """The message of a node; ``None`` for nodes without text, such as hidden ones, and for what is
    written to a tool."""
    given = node.get("message")
    if not isinstance(given, Mapping) or given.get("recipient") not in (None, "", "all"):
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
    parts = [p for p in _listed(given.get("content")) if isinstance(p, Mapping)]
    text = given.get("text")
    if not has_content(text) or any(p.get("type") not in ("text", "thinking") for p in parts):
        # “text” holds a remark in the place of each other part
        said = "\n".join(str(p["text"]) for p in parts if has_content(p.get("text")))
        text = said if parts else text
    if not has_content(text):
        return None  # a message that was cancelled, or that has only attachments (see ``unused``)
    message = {"role": role, "content": as_text(text, place, _LIST)}
    thoughts = [p.get("thinking") for p in parts if has_content(p.get("thinking"))]
    if role == "assistant" and thoughts:
        message["reasoning_content"] = "\n\n".join(
            as_text(t, f"a thought of {place}", _LIST) for t in thoughts
        )
    return message


def unused(row: Row, settings: ChatExportSettings) -> list[str]:
    """The other branches, tool messages and other contents of ChatGPT; attachments of Claude, and parts
    that are neither text nor thoughts."""
    del settings
    if _is_tree(row.get(_TREE)):
        used = {id(node) for node in _path(row)}
        nodes = [n for n in row[_TREE].values() if isinstance(n.get("message"), Mapping)]
        found = []
        if any(id(n) not in used and _said(n) for n in nodes):
            found.append("mapping: other branches")
        if any(id(n) in used and _said(n) and _node_message(n) is None for n in nodes):
            found.append("mapping: messages of tools")
        kept = [m.get("reasoning_content", "") for m in _messages_of(_path(row))]
        thoughts = [t for node in _path(row) for t in _node_thoughts(node)]
        if not all(any(t in said for said in kept) for t in thoughts):
            found.append("mapping: thoughts without an answer")
        others = [c for n in nodes if id(n) in used and (c := _content(n)) is not None]
        found += [f"mapping: {key}" for key in unused_keys(others, _USED_CONTENT)]
        return found
    given = _listed(row.get(_LIST))
    kinds: dict[str, None] = {}
    for number, message in enumerate(given, start=1):
        made = _list_message(message, number) or {}
        known = ("text", "thinking") if "reasoning_content" in made else ("text",)
        parts = [p for p in _listed(message.get("content")) if isinstance(p, Mapping)]
        kinds |= dict.fromkeys(
            kind
            for p in parts
            if (kind := str(p.get("type"))) not in known
            and (kind != "thinking" or has_content(p.get("thinking")))
        )
    return [
        *(f"{_LIST}[].{key}" for key in unused_keys(given, _USED)),
        *(f"{_LIST}[].content: {kind}" for kind in kinds),
    ]


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
