"""The canonical form of rows, stored between the Dataset step and the encoder.

All formats convert to it, and all code that uses rows starts from it. Fields of a message other
than role, content and weight (tool calls, a name) are stored as JSON text, because Arrow needs a
fixed schema. Independent of files and tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "messages",
    "tools",
    "chat_template_kwargs",
    "chosen",
    "rejected",
    "label",
    "prompt",
    "completion",
    "text",
    "line",
    "source",
)
"""The stored columns. Their Arrow types are in ``studio.training.data.features``."""
_LISTS = ("messages", "chosen", "rejected")
_OWN = ("role", "content", "weight")
_PLACE = ("line", "source")


def to_arrow(row: Mapping[str, Any]) -> dict[str, Any]:
    """A canonical row of a format (see ``studio.data.row_format``) as the stored columns."""
    stored: dict[str, Any] = {name: row.get(name) for name in COLUMNS}
    for name in _LISTS:
        if stored[name] is not None:
            stored[name] = [_stored(m) for m in stored[name]]
    if stored["tools"] is not None:
        stored["tools"] = json.dumps(stored["tools"], ensure_ascii=False)
    if stored["chat_template_kwargs"] is not None:
        stored["chat_template_kwargs"] = json.dumps(
            stored["chat_template_kwargs"], ensure_ascii=False
        )
    return stored


def messages_of(row: Mapping[str, Any], name: str = "messages") -> list[dict[str, Any]]:
    """The messages of a stored row in the form of chat templates: role, content and other fields,
    without weights.
    """
    return as_template_messages(row.get(name) or ())


def weights_of(row: Mapping[str, Any], name: str = "messages") -> list[float | None]:
    """The weight of each message of a stored row; ``None`` if the data has none."""
    return [m.get("weight") for m in row.get(name) or ()]


def tools_of(row: Mapping[str, Any]) -> list[Any] | None:
    """The tools of a stored row, or ``None``."""
    return json.loads(row["tools"]) if row.get("tools") else None


def template_kwargs_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's further variables of the chat template."""
    found: dict[str, Any] = json.loads(row.get("chat_template_kwargs") or "{}")
    return found


def content_hash(row: Mapping[str, Any]) -> int:
    """A 64-bit hash of the content of a stored row; rows with equal content have equal hashes."""
    said = {k: v for k, v in row.items() if k not in _PLACE and v is not None}
    text = json.dumps(said, ensure_ascii=False, sort_keys=True, default=str)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _stored(message: Mapping[str, Any]) -> dict[str, Any]:
    extra = {k: v for k, v in message.items() if k not in _OWN and v is not None}
    return {
        "role": message["role"],
        "content": message["content"],
        "weight": message.get("weight"),
        "extra": json.dumps(extra, ensure_ascii=False) if extra else None,
    }


def _template_message(stored: Mapping[str, Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = json.loads(stored["extra"]) if stored.get("extra") else {}
    return {"role": stored["role"], "content": stored["content"], **extra}


def as_template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored or plain messages in the form of chat templates."""
    return [
        _template_message(m) if "extra" in m else {k: v for k, v in m.items() if k != "weight"}
        for m in messages
    ]
