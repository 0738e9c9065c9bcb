"""Checks of a stored row that need no tokenizer: order of roles, content, damaged characters.

Pure functions of one row (``studio.data.canonical``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_LISTS = ("messages", "chosen", "rejected")
# Two or more bytes of UTF-8 decoded as Windows-1252 or Latin-1: a leading byte as a
# letter, followed by characters from the upper half of that code page.
_UPPER = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_TWICE = re.compile(f"[\u00c2-\u00df][{_UPPER}]|[\u00e0-\u00ef][{_UPPER}]{{2}}|ð[{_UPPER}]{{3}}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def texts_of(row: Row, *, system: bool = True) -> list[str]:
    """All texts of the row, in order; ``system=False`` omits system messages."""
    texts = [str(row[name]) for name in ("prompt", "completion", "text") if row.get(name)]
    for name in _LISTS:
        for message in row.get(name) or ():
            if message.get("content") and (system or message["role"] != "system"):
                texts.append(str(message["content"]))
    return texts


def answer_of(row: Row) -> str | None:
    """The last answer of the row; ``None`` if it has none."""
    if row.get("completion") is not None:
        return str(row["completion"])
    messages = row.get("chosen") or row.get("messages") or ()
    answers = [m for m in messages if m["role"] == "assistant"]
    return str(answers[-1].get("content") or "") if answers else None


def role_error(row: Row) -> str:
    """What is wrong with the order of the roles; empty if nothing is."""
    roles = [str(m["role"]) for m in row.get("messages") or ()]
    if not roles:
        return ""
    if row.get("chosen") is None and "assistant" not in roles:
        return "no assistant message"
    if "system" in roles[1:]:
        return "a system message that is not the first message"
    spoken = [m for m in row["messages"] if m["role"] != "system"]
    return _order_error(row, [str(m["role"]) for m in spoken]) or _call_error(spoken)


def _order_error(row: Row, roles: Sequence[str]) -> str:
    if roles[0] == "assistant":
        return "the first message is from the assistant"
    if roles[0] == "tool":
        return "the first message is a tool result"
    for before, after in itertools.pairwise(roles):
        if before == after and after in ("user", "assistant"):
            return f"two {after} messages in a row"
        if after == "tool" and before == "user":
            return "a tool result follows a user message"
    if roles[-1] != "assistant" and row.get("chosen") is None:
        return f"the last message has the role {roles[-1]} and no answer"
    return ""


def _call_error(messages: Sequence[Row]) -> str:
    """Tool calls and results that do not match.

    A call can also be written in the text of an answer, which then contains a bracket.
    """
    for before, after in itertools.pairwise(messages):
        if before["role"] != "assistant":
            continue
        calls = "tool_calls" in (before.get("extra") or "")
        if calls and after["role"] == "user":
            return "a tool call is followed by a user message instead of a result"
        if after["role"] == "tool" and not (calls or set("{[(<") & set(before["content"] or "")):
            return "a tool result follows a message without a tool call"
    return ""


def damage(text: str) -> str:
    """A sign that the text was decoded incorrectly or cut within a character; empty if there is none."""
    if "\ufffd" in text:
        return "replacement characters (�)"
    control = _CONTROL.search(text)
    if control:
        return f"control characters (U+{ord(control.group()):04X})"
    if text.isascii():
        return ""
    twice = next((m.group() for m in _TWICE.finditer(text) if _was_utf8(m.group())), None)
    return f"UTF-8 decoded with another encoding (“{twice}”)" if twice else ""


def _was_utf8(piece: str) -> bool:
    """Whether the characters are the bytes of one UTF-8 character."""
    try:
        raw = b"".join(_byte(c) for c in piece)
        return len(raw.decode("utf-8")) == 1
    except UnicodeError:
        return False


def _byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1")
