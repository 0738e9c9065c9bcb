"""Converts lists of messages in data to the messages that chat templates take.

Chat, ShareGPT, conversational prompts, preferences and labels all contain such lists. They differ
in the names of two keys and of the roles, which are detected. Independent of the columns and
settings of formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import OBJECT, named, unused_keys
from studio.data.message_names import (
    CALLERS,
    ROLES,
    TEXT_OF_THOUGHT,
    THOUGHTS,
    USUAL,
    Keys,
    role_name,
)
from studio.data.row_format import RowError, as_text, kind_of, listed
from studio.data.tool_blocks import USED_IN_BLOCKS, as_tool_messages, is_item, is_plain
from studio.data.tool_calls import calls_in, clean_json, tools_in

Message = dict[str, Any]

_THOUGHTS = frozenset(THOUGHTS)
_THOUGHT_PARTS = (
    *("thinking", "reasoning", "reasoning_content", "thought"),
    *("reasoning.text", "reasoning.summary", "reasoning_text"),
)

_LARGEST_WEIGHT = 1e6


def message_keys(value: Any, keys: Keys = USUAL) -> tuple[str, str] | None:
    """The names of role and content in a list of messages, or ``None`` if it is not one."""
    found = listed(value)
    first = found[0] if found else None
    if not isinstance(first, OBJECT):
        return None
    if is_item(first):
        return keys.role[0], keys.content[0]
    role = named(first, keys.role[0], keys.role[1:])
    content = named(first, keys.content[0], keys.content[1:])
    if role is None or (content is None and not first.get("tool_calls")):
        return None
    return role, content or keys.content[0]


def messages_in(value: Any, name: str, keys: Keys = USUAL) -> list[Message]:
    """The messages in column ``name``; raises ``RowError`` naming the invalid message."""
    found = listed(value)
    if found is None:
        raise RowError(
            f"has no list of messages in column “{name}”, but {kind_of(value)}",
            "Each row needs a list of objects with role and content.",
            column=name,
            code="not_messages",
        )
    messages = enumerate(as_tool_messages(found, name), start=1)
    return [_message(m, f"message {i} of column “{name}”", name, keys) for i, m in messages]


_OFFERS = ("tools", "functions")
"""Keys of a message with the tools that the assistant may call."""

USED_KEYS = frozenset(
    [
        "role",
        "name",
        "tool_call_id",
        "tool_calls",
        "function_call",
        "function_calls",
        *_OFFERS,
        "weight",
        "train",
        "type",
        "channel",
        *THOUGHTS,
    ]
)
"""Keys of a message that are used, besides those of role and content."""


_USED_IN_PARTS = USED_IN_BLOCKS | {"type", "text", "signature", *THOUGHTS, *TEXT_OF_THOUGHT}
_TEXT_PART = frozenset(["type", "text", "cache_control", "signature"])
_USED_IN_CALLS = frozenset(
    ["id", "call_id", "type", "index", "function", "name", "arguments", "parameters"]
)


def unused_call_keys(calls: Sequence[Any], name: str) -> list[str]:
    """The keys with content of tool calls in column ``name`` that are not used."""
    return [f"{name}[].{key}" for key in unused_keys(calls, _USED_IN_CALLS)]


def unused_message_keys(
    value: Any, name: str, keys: Keys = USUAL, *, tools: bool = True
) -> list[str]:
    """The keys with content of the messages in column ``name`` that are not used, as ``name[].key``;
    ``tools`` says whether the format uses the tools that a message offers."""
    given = listed(in_list(value)) or ()
    found = message_keys(given, keys)
    if found is None or all(is_plain(m) and found[0] in m and found[1] in m for m in given):
        return []
    messages = as_tool_messages(given, name)
    used_keys = (USED_KEYS if tools else USED_KEYS.difference(_OFFERS)) | set(found)
    names = [f"{name}[].{key}" for key in unused_keys(messages, used_keys)]
    for key, used in ((found[1], _USED_IN_PARTS), ("tool_calls", _USED_IN_CALLS)):
        lists = [m[key] for m in messages if isinstance(m, OBJECT) and key in m]
        inner = [part for value in lists if isinstance(value, list) for part in value]
        names += [f"{name}[].{key}[].{k}" for k in unused_keys(inner, used)]
    return names


def text_in(value: Any, name: str) -> str:
    """The text in column ``name``, which may be a list of text parts, or an object that holds one, as
    Anthropic, Bedrock and Gemini write a system message."""
    place = f"column “{name}”"
    if isinstance(value, Mapping):
        value = next((value[k] for k in USUAL.content if value.get(k) is not None), value)
    if isinstance(value, (list, tuple)) and (
        all(isinstance(p, Mapping) and _TEXT_PART.issuperset(p) for p in value)
        or (len(value) == 1 and isinstance(value[0], str))
    ):
        value = _joined(value, place, name)
    return as_text(value, place, name, empty=True)


def answered(messages: Sequence[Message], name: str) -> list[Message]:
    """The messages unchanged; raises ``RowError`` if none is by the assistant."""
    if not any(m["role"] == "assistant" for m in messages):
        raise RowError(
            f"has no answer: none of its {len(messages)} messages has the role assistant",
            "Add an assistant message, or remove the row.",
            column=name,
            code="no_answer",
        )
    return list(messages)


def may_be_turns(value: Any) -> bool:
    """Whether ``turns_in`` may accept the value: text, a list of messages, or one message."""
    return not isinstance(value, (list, dict)) or message_keys(in_list(value)) is not None


def turns_in(value: Any, name: str, role: str) -> list[Message]:
    """One part of a row: text becomes one message of ``role``, messages are converted."""
    value = in_list(value)
    if message_keys(value) is not None:
        return messages_in(value, name)
    return [{"role": role, "content": as_text(value, f"column “{name}”", name)}]


def in_list(value: Any) -> Any:
    """A single message as a list of messages; anything else unchanged. An object that only looks like
    one, such as {"role": "nurse", ...}, is none."""
    if not isinstance(value, Mapping):
        return value
    keys = message_keys([value])
    known = (
        keys is not None
        and role_name(value[keys[0]]) in ROLES
        and not value.keys() - {*keys, *USED_KEYS}
    )
    return [value] if known else value


def untrained(messages: Sequence[Message]) -> list[Message]:
    """The messages of a prompt: its assistant messages are context and not trained."""
    return [{**m, "weight": 0.0} if m["role"] == "assistant" else m for m in messages]


def _message(given: Any, place: str, name: str, keys: Keys) -> Message:
    if keys is USUAL and is_plain(given):
        speaker, said = ("role", "content") if "role" in given else ("from", "value")
        role = ROLES[given[speaker]]
        return {"role": role, "content": as_text(given[said], place, name, empty=role == "system")}
    if not isinstance(given, OBJECT):
        raise RowError(
            f"does not contain an object in {place}",
            "Write each message as an object with role and content.",
            column=name,
            code="not_messages",
        )
    _refuse_item(given, place, name)
    said = given[_key(given, keys.role, place, name)]
    if role_name(said) in CALLERS:
        content = given[_key(given, keys.content, place, name)]
        message: Message = {
            "role": "assistant",
            "content": "",
            "tool_calls": calls_in(content, place, name),
        }
        if thought := _thought(given, "", place, name):
            message["reasoning_content"] = thought
    else:
        message = _spoken(given, _role(said, place, name), place, name, keys)
    weight = _weight(given, place, name)
    if weight is not None:
        message["weight"] = weight
    return message


def _refuse_item(given: Mapping[str, Any], place: str, name: str) -> None:
    """Raise ``RowError`` for an item without a role, such as a web search of the Responses API."""
    kind = given.get("type")
    if isinstance(kind, str) and given.keys().isdisjoint(USUAL.role):
        raise RowError(
            f"contains an item of type {kind!r} in {place}, which cannot be trained on"[:300],
            "Remove the item or the row.",
            column=name,
            code="unknown_item",
        )


def _spoken(given: Mapping[str, Any], role: str, place: str, name: str, keys: Keys) -> Message:
    calls = given.get("tool_calls") or given.get("function_call") or given.get("function_calls")
    if calls:
        content = given.get(named(given, keys.content[0], keys.content[1:]) or "")
    else:
        content = given[_key(given, keys.content, place, name)]
    thought = ""
    if not isinstance(content, str):
        if role == "tool" and not _is_parts(content) and isinstance(content, (Mapping, list)):
            content = clean_json(content, place, name)
        content, thought = _without_thoughts(content, place, name)
        content = _joined(content, place, name)
    may_be_empty = role in ("system", "tool") or bool(calls)
    plain = as_text(content, place, name, empty=may_be_empty)
    message: Message = {"role": role, "content": plain}
    for key in ("name", "tool_call_id"):
        if isinstance(given.get(key), str) and given[key]:
            message[key] = as_text(given[key], f"“{key}” of {place}", name)
    thought = _thought(given, thought, place, name)
    if thought and _is_further_thought(thought, role, plain, place, name):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls_in(calls, place, name)
    return message


def _key(given: Mapping[str, Any], wanted: Sequence[str], place: str, name: str) -> str:
    key = named(given, wanted[0], wanted[1:])
    if key is None:
        raise RowError(
            f"has no key “{wanted[0]}” in {place}; its keys are {', '.join(map(str, given)) or 'none'}",
            "Enter the correct key in the format settings.",
            column=name,
            code="missing_column",
        )
    return key


def _role(given: Any, place: str, name: str) -> str:
    role = ROLES.get(role_name(given))
    if role is None:
        raise RowError(
            f"has the unknown role {given!r} in {place}"[:300],
            "Use system, user, assistant or tool.",
            column=name,
            code="unknown_role",
        )
    return role


def _weight(given: Mapping[str, Any], place: str, name: str) -> float | None:
    """The weight of a message: ``weight``, or 0 if ``train`` is false."""
    if "weight" not in given and "train" not in given:
        return None
    value, train = given.get("weight"), given.get("train")
    if not isinstance(train, bool | None):
        raise _bad_weight(f"has {train!r} as “train” in {place}", name)
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not _in_range(value)
    ):
        raise _bad_weight(f"has the weight {value!r} in {place}", name)
    if train is False:
        return 0.0
    return None if value is None else float(value)


def _in_range(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= _LARGEST_WEIGHT


def _bad_weight(what: str, name: str) -> RowError:
    return RowError(
        what[:300],
        "A weight is a number of at least 0; 0 is not trained and 1 is the "
        "default. “train” is true or false.",
        column=name,
        code="bad_weight",
    )


def _thought(given: Mapping[str, Any], first: str, place: str, name: str) -> str:
    """What the assistant thinks before it answers, from whichever key has it; ``first`` is what the
    content holds of it. A flag (``"thinking": true``) is no thought."""
    if not first and _THOUGHTS.isdisjoint(given):
        return ""
    found = [first] if first else []
    for key in THOUGHTS:
        value = given.get(key)
        if value is None or isinstance(value, bool):
            continue
        value = _joined_thoughts(value, place, name) if _is_parts(value) else value
        found.append(as_text(value, f"“{key}” of {place}", name, empty=True))
    different = {text.strip(): text for text in found if text.strip()}
    if len(different) > 1:
        raise RowError(
            f"has several different thoughts in {place}",
            f"Keep one of {', '.join(f'“{key}”' for key in THOUGHTS)}.",
            column=name,
            code="several_thoughts",
        )
    return next(iter(different.values()), "")


_INLINE = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL)


def inline_thought(content: str) -> str:
    """The thought that an answer begins with."""
    found = _INLINE.match(content)
    return found[1].strip() if found is not None else ""


def _is_further_thought(thought: str, role: str, content: str, place: str, name: str) -> bool:
    """Whether the answer does not begin with this thought already. Raises ``RowError`` for a thought that
    no template shows: of another role, or beside another one in the answer."""
    if role != "assistant":
        raise RowError(
            f"has a thought in {place}, which is not an answer",
            "Move it to the answer, or remove it.",
            column=name,
            code="misplaced_thought",
        )
    inline = inline_thought(content)
    if inline not in ("", thought.strip()):
        raise RowError(
            f"has several different thoughts in {place}: in its text, and beside it",
            "Keep one of them.",
            column=name,
            code="several_thoughts",
        )
    return not inline


def tools_beside(value: Any, name: str) -> list[Any] | None:
    """The tools that the messages of column ``name`` offer, in their key “tools” or “functions”; raises
    ``RowError`` if messages offer different ones."""
    if isinstance(value, str) and not any(key in value for key in _OFFERS):
        return None
    offered: list[Any] | None = None
    for message in listed(in_list(value)) or ():
        if isinstance(message, OBJECT) and not is_plain(message):
            for key in _OFFERS:
                found = tools_in(message.get(key), f"{name}[].{key}")
                if found and offered and found != offered:
                    raise RowError(
                        f"offers different tools in the messages of column “{name}”",
                        "Templates take one list of tools for the conversation: write it into a column "
                        "“tools”, and remove it from the messages.",
                        column=name,
                        code="several_tools",
                    )
                offered = offered or found
    return offered


def _without_thoughts(content: Any, place: str, name: str) -> tuple[Any, str]:
    """A list of parts without those that are thoughts, and these as text."""
    if not isinstance(content, (list, tuple)):
        return content, ""
    thinks = [isinstance(p, Mapping) and p.get("type") in _THOUGHT_PARTS for p in content]
    if not any(thinks):
        return content, ""
    spoken = [p for p, is_thought in zip(content, thinks, strict=True) if not is_thought]
    if any(thinks[thinks.index(False) :] if False in thinks else ()):
        raise RowError(
            f"has a thought after the beginning of the answer in {place}",
            "Put thoughts before the answer, or write it as two messages.",
            column=name,
            code="late_thought",
        )
    texts = [_text_of_thought(p, place, name) for p in content[: sum(thinks)]]
    return spoken or None, "\n\n".join(filter(None, texts))


def _joined_thoughts(parts: Sequence[Any], place: str, name: str) -> str:
    """The thought in a list of texts or parts; parts that are encrypted have none."""
    if not any(isinstance(p, Mapping) and p.get("type") in _THOUGHT_PARTS for p in parts):
        parts = [p for p in parts if not (isinstance(p, Mapping) and "data" in p)]
        return str(_joined(parts, place, name))
    thoughts = [p for p in parts if isinstance(p, Mapping) and p.get("type") in _THOUGHT_PARTS]
    return "\n\n".join(filter(None, (_text_of_thought(p, place, name) for p in thoughts)))


def _text_of_thought(part: Mapping[str, Any], place: str, name: str) -> str:
    value = next((part[key] for key in TEXT_OF_THOUGHT if part.get(key)), None)
    text = _joined(value, place, name) if _is_parts(value) else value
    return as_text(text, f"a thought of {place}", name, empty=True)


def _is_parts(content: Any) -> bool:
    return isinstance(content, (list, tuple)) and all(
        isinstance(p, str) or (isinstance(p, Mapping) and "type" in p) for p in content
    )


def _joined(content: Any, place: str, name: str) -> Any:
    """A list of text parts as one text; other values are unchanged."""
    if not isinstance(content, (list, tuple)):
        return content
    return "".join(_part(p, i, place, name) for i, p in enumerate(content, start=1))


def _part(part: Any, number: int, place: str, name: str) -> str:
    text = part.get("text") if isinstance(part, Mapping) else part
    if isinstance(text, str):
        return text
    kind = f"that is {kind_of(part)}"
    if isinstance(part, Mapping):
        keys = [str(key) for key, value in part.items() if value is not None and key != "index"]
        kind = f"of type {part['type']!r}" if part.get("type") else f"“{', '.join(keys)}”"
    raise RowError(
        f"contains a part {kind} in {place} (part {number}); only text can be trained on"[:300],
        "Remove the part or the row.",
        column=name,
        code="not_text",
    )
