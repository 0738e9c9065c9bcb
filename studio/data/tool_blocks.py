"""Tool calls and results that are parts of a content list or items of their own, as messages.

Anthropic writes calls as ``tool_use`` parts of an answer and results as ``tool_result`` parts of a user
message; the Responses API of OpenAI writes ``function_call`` and ``function_call_output`` items beside the
messages. Chat templates take calls in ``tool_calls`` and results as messages of the role ``tool``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from studio.data.columns import OBJECT

_CALL, _RESULT = "tool_use", "tool_result"
_ITEMS = ("function_call", "function_call_output", "reasoning")


def as_tool_messages(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages with calls in ``tool_calls`` and results in messages of their own; unchanged where
    there are no such parts or items."""
    if not any(map(_has_blocks, messages)):
        return messages
    made: list[Any] = []
    thought: Any = None
    for given in messages:
        if not isinstance(given, Mapping):
            made.append(given)
        elif _is_item(given, "reasoning"):
            thought = given.get("summary") or given.get("content")
        else:
            for message in _split(given):
                if thought and message.get("role") == "assistant":
                    message["reasoning_content"], thought = thought, None
                made.append(message)
    return _joined_calls(made)


def _has_blocks(message: Any) -> bool:
    if not isinstance(message, OBJECT):
        return False
    content = message.get("content")
    if isinstance(content, list) and any(map(_is_block, content)):
        return True
    return "role" not in message and message.get("type") in _ITEMS


def _is_block(part: Any) -> bool:
    return isinstance(part, OBJECT) and part.get("type") in (_CALL, _RESULT)


def _is_item(message: Mapping[str, Any], kind: str) -> bool:
    return message.get("type") == kind and "role" not in message


def _split(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One message, or the messages that its parts are."""
    if _is_item(given, "function_call"):
        call = {
            "id": given.get("call_id"),
            "function": {k: given.get(k) for k in ("name", "arguments")},
        }
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        return
    if _is_item(given, "function_call_output"):
        yield {"role": "tool", "content": given.get("output"), "tool_call_id": given.get("call_id")}
        return
    content = given.get("content")
    if not isinstance(content, list) or not _has_blocks(given):
        yield dict(given)
        return
    calls: list[Any] = []
    rest: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == _RESULT:
            if rest:
                yield {**given, "content": rest}
                rest = []
            yield {
                "role": "tool",
                "content": _result(part),
                "tool_call_id": part.get("tool_use_id"),
            }
        elif kind == _CALL:
            function = {"name": part.get("name"), "arguments": part.get("input") or {}}
            calls.append({"id": part.get("id"), "function": function})
        else:
            if calls:  # a text after a call is a message of its own
                yield {**given, "content": rest or None, "tool_calls": calls}
                calls, rest = [], []
            rest.append(part)
    if calls:
        yield {**given, "content": rest or None, "tool_calls": calls}
    elif rest:
        yield {**given, "content": rest}


def _result(part: Mapping[str, Any]) -> Any:
    content = part.get("content")
    if part.get("is_error") and isinstance(content, str):
        return json.dumps({"error": content}, ensure_ascii=False)
    return content if content is not None else ""


def _joined_calls(messages: Sequence[Any]) -> list[Any]:
    """Calls that follow one another directly belong to one answer."""
    made: list[Any] = []
    for message in messages:
        before = made[-1] if made else None
        if (
            isinstance(message, dict)
            and isinstance(before, dict)
            and set(message) == {"role", "content", "tool_calls"}
            and message["content"] is None
            and before.get("role") == "assistant"
        ):
            made[-1] = {
                **before,
                "tool_calls": [*(before.get("tool_calls") or []), *message["tool_calls"]],
            }
        else:
            made.append(message)
    return made
