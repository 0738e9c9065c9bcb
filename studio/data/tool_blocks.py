"""Tool calls, results and thoughts that are parts of a content list or items of their own, as messages.

Anthropic, Amazon Bedrock and Gemini write calls and results as parts of a message (``tool_use``,
``toolUse``, ``functionCall``); the Responses API of OpenAI writes them as items beside the messages, and
harmony (GPT-OSS) as messages in channels. Chat templates take calls in ``tool_calls``, results as messages
of the role ``tool``, and thoughts in ``reasoning_content`` of the answer that they belong to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from studio.data.columns import OBJECT
from studio.data.message_names import (
    CALLERS,
    ROLES,
    TEXT_OF_THOUGHT,
    THINKERS,
    USUAL,
    role_name,
)
from studio.data.row_format import RowError

_CALL, _RESULT, _THOUGHT = "tool_use", "tool_result", "thinking"
_ITEMS = ("function_call", "function_call_output", "reasoning")
_USUAL_ROLES = ("user", "assistant", "system", "human", "gpt")
_PARTS = {
    **dict.fromkeys(("functionCall", "function_call", "toolUse", "tool-call"), _CALL),
    **dict.fromkeys(
        ("functionResponse", "function_response", "toolResult", "tool-result"), _RESULT
    ),
    "reasoningContent": _THOUGHT,
}
"""Parts of Gemini, Bedrock and the AI SDK, by their key or type, as the parts of Anthropic."""
USED_IN_BLOCKS = frozenset(["closed", "thoughtSignature", "thought_signature"])
"""Keys of parts that describe a thought."""


def is_item(message: Any, *kinds: str) -> bool:
    """Whether a message is an item of the Responses API without a role, of one of these kinds."""
    return (
        isinstance(message, OBJECT)
        and message.get("type") in (kinds or _ITEMS)
        and not any(message.get(key) for key in USUAL.role)
    )


def is_plain(message: Any) -> bool:
    """Whether a message is only a text with a usual role, as most are: it needs no further checks."""
    if not isinstance(message, dict) or len(message) != 2:
        return False
    role, content = message.get("role"), message.get("content")
    if content is None:
        role, content = message.get("from"), message.get("value")
    return isinstance(content, str) and role in _USUAL_ROLES


def as_tool_messages(messages: Sequence[Any], name: str) -> Sequence[Any]:
    """The messages of column ``name`` with calls in ``tool_calls``, results in messages of their own, and
    thoughts in their answers; unchanged where there are no such parts, items or channels."""
    if all(map(is_plain, messages)) or not any(map(_has_blocks, messages)):
        return messages
    made: list[Any] = []
    thoughts: list[Any] = []
    for number, given in enumerate(messages, start=1):
        if not isinstance(given, Mapping):
            made.append(given)
        elif _thinks(given):
            thoughts += _thoughts_of(given)
        else:
            for message in _split(_with_known_parts(given)):
                if thoughts and not _speaks(message):
                    raise _without_answer(number - 1, name)
                if thoughts:
                    message = _with_thoughts(message, thoughts, number, name)
                    thoughts = []
                made.append(message)
    if thoughts:
        raise _without_answer(len(messages), name)
    return _joined_calls(made)


def _has_blocks(message: Any) -> bool:
    if not isinstance(message, Mapping):
        return False
    role = _role(message)
    if not role:
        return is_item(message)
    if role_name(role) in THINKERS or _tool_of(message):
        return True
    if ("channel" in message or "recipient" in message) and (
        _thinks(message) or _called_tool(message)
    ):
        return True
    return any(
        isinstance(p, Mapping) and (p.get("type") in (_CALL, _RESULT) or _known_kind(p))
        for p in _parts_of(message)
    )


def _parts_of(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get(_content_key(message))
    return content if isinstance(content, (list, tuple)) else ()


def _content_key(message: Mapping[str, Any]) -> str:
    return next((key for key in USUAL.content if message.get(key) is not None), "content")


def _role(message: Mapping[str, Any]) -> str:
    found = next((message[key] for key in USUAL.role if message.get(key)), "")
    return found if isinstance(found, str) else ""


def _speaks(message: Mapping[str, Any]) -> bool:
    """Whether a message is an answer or a call."""
    name = role_name(_role(message))
    return ROLES.get(name) == "assistant" or name in CALLERS


# ------------------------------------------------------------------ thoughts


def _thinks(message: Mapping[str, Any]) -> bool:
    """Whether a message is only the thought before the next answer."""
    if is_item(message, "reasoning") or role_name(_role(message)) in THINKERS:
        return True
    return message.get("channel") == "analysis" and not _called_tool(message)


def _thoughts_of(message: Mapping[str, Any]) -> list[Any]:
    found = message.get("content") if is_item(message) else message.get(_content_key(message))
    found = (is_item(message) and message.get("summary")) or found
    return list(found) if isinstance(found, (list, tuple)) else [found] if found else []


def _with_thoughts(
    message: Mapping[str, Any], thoughts: Sequence[Any], number: int, name: str
) -> dict[str, Any]:
    """The answer with the thoughts before it; raises ``RowError`` where it has its own."""
    texts = [t if isinstance(t, str) else _text_of(t) for t in thoughts]
    if any(message.get(key) for key in ("reasoning_content", "reasoning", "thinking")):
        raise RowError(
            f"has several different thoughts before message {number} of column “{name}”",
            "Keep one of them.",
            column=name,
            code="several_thoughts",
        )
    if None in texts:
        raise RowError(
            f"has a thought that is not text before message {number} of column “{name}”",
            "Correct it, or remove the row.",
            column=name,
            code="not_text",
        )
    return {**message, "reasoning_content": "\n\n".join(filter(None, texts))}


def _text_of(thought: Any) -> str | None:
    """The text of a part of a thought; ``None`` for anything else."""
    if not isinstance(thought, Mapping):
        return None
    found = next((thought[key] for key in TEXT_OF_THOUGHT if thought.get(key) is not None), None)
    return found if isinstance(found, str) else None


def _without_answer(number: int, name: str) -> RowError:
    return RowError(
        f"has a thought in message {number} of column “{name}”, which no answer follows",
        "Add the answer, or remove the row.",
        column=name,
        code="no_answer",
    )


# ------------------------------------------------------------------ channels of harmony


def _called_tool(message: Mapping[str, Any]) -> str:
    """The function that a message of harmony is addressed to."""
    return _function_in(message.get("recipient"))


def _tool_of(message: Mapping[str, Any]) -> str:
    """The function whose result a message of harmony is."""
    return _function_in(_role(message))


def _function_in(name: Any) -> str:
    is_one = isinstance(name, str) and name.strip().startswith("functions.")
    return str(name).strip().removeprefix("functions.") if is_one else ""


# ------------------------------------------------------------------ parts and items


def _known_kind(part: Mapping[str, Any]) -> str:
    """What a part of Gemini, Bedrock or the AI SDK is among the parts of Anthropic, or nothing."""
    if part.get("thought") is True:
        return _THOUGHT
    kind = part.get("type")
    if kind is not None:
        return _PARTS.get(str(kind), "") if kind in ("tool-call", "tool-result") else ""
    return next((known for key, known in _PARTS.items() if part.get(key)), "")


def _with_known_parts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with its parts as Anthropic writes them."""
    parts = _parts_of(message)
    if not any(isinstance(p, Mapping) and _known_kind(p) for p in parts):
        return message
    key = _content_key(message)
    return {**message, key: [_known_part(p) if isinstance(p, Mapping) else p for p in parts]}


def _known_part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = _known_kind(part)
    if not kind:
        return part
    key = next((k for k in _PARTS if part.get(k)), "")
    inner: Any = part[key] if key else part
    if kind == _THOUGHT:
        inner = inner.get("reasoningText") or inner if isinstance(inner, Mapping) else inner
        text = inner.get("text") if isinstance(inner, Mapping) else inner
        return {"type": _THOUGHT, "thinking": text}
    if not isinstance(inner, Mapping):
        return part
    name = inner.get("name") or inner.get("toolName")
    number = next((inner[k] for k in ("id", "toolUseId", "toolCallId") if inner.get(k)), None)
    if kind == _CALL:
        given = next((inner[k] for k in ("args", "input") if inner.get(k) is not None), None)
        return {"type": _CALL, "id": number, "name": name, "input": given}
    said = next(
        (inner[k] for k in ("response", "content", "output", "result") if inner.get(k) is not None),
        "",
    )
    failed = inner.get("status") == "error" or inner.get("isError")
    return {
        "type": _RESULT,
        "tool_use_id": number,
        "name": name,
        "content": _plain_result(said),
        "is_error": failed,
    }


def _plain_result(said: Any) -> Any:
    """The result of a tool, with the JSON parts of Bedrock as text."""
    if isinstance(said, (list, tuple)) and all(isinstance(p, Mapping) for p in said):
        return [
            {"type": "text", "text": json.dumps(p["json"], ensure_ascii=False)}
            if p.get("json") is not None
            else {"type": "text", **p}
            if isinstance(p.get("text"), str)
            else p
            for p in said
        ]
    if isinstance(said, Mapping) and set(said) == {"type", "value"}:  # the AI SDK
        said = said["value"]
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)


def _split(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One message, or the messages that its parts are."""
    if is_item(given, "function_call"):
        call = {
            "id": given.get("call_id"),
            "function": {k: given.get(k) for k in ("name", "arguments")},
        }
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
        return
    if is_item(given, "function_call_output"):
        yield {"role": "tool", "content": given.get("output"), "tool_call_id": given.get("call_id")}
        return
    if called := _called_tool(given):
        function = {"name": called, "arguments": _one_text(given)}
        yield {"role": "assistant", "content": None, "tool_calls": [{"function": function}]}
        return
    if tool := _tool_of(given):
        yield {"role": "tool", "content": _one_text(given), "name": tool}
        return
    content = _parts_of(given)
    if not content or not _has_blocks(given):
        yield dict(given)
        return
    key = _content_key(given)
    rest_of = {k: v for k, v in given.items() if k != key}
    calls: list[Any] = []
    rest: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == _RESULT:
            if rest:
                yield {**rest_of, key: rest}
                rest = []
            yield {
                "role": "tool",
                key: _result(part),
                "tool_call_id": part.get("tool_use_id"),
                **({"name": part["name"]} if part.get("name") else {}),
            }
        elif kind == _CALL:
            function = {"name": part.get("name"), "arguments": part.get("input") or {}}
            calls.append({"id": part.get("id"), "function": function})
        else:
            if calls:  # a text after a call is a message of its own
                yield {**rest_of, key: rest or None, "tool_calls": calls}
                calls, rest = [], []
            rest.append(part)
    if calls:
        yield {**rest_of, key: rest or None, "tool_calls": calls}
    elif rest:
        yield {**rest_of, key: rest}


def _one_text(message: Mapping[str, Any]) -> Any:
    """The content of a message that is one text, also as a list of one part."""
    content = message.get(_content_key(message))
    if isinstance(content, (list, tuple)) and len(content) == 1 and isinstance(content[0], Mapping):
        return content[0].get("text", content)
    return content


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
