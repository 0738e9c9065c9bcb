"""Converts tools and tool calls to the form that chat templates take.

Data contains arguments as JSON text or as an object, flat or nested calls, and tools with or
without the outer ``{"type": "function"}``; templates expect one of these forms. A null that was
written is kept: the model is to write it. The nulls that a table with a fixed schema adds
(``studio.data.reading.structs``) are removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.reading.structs import without_filler
from studio.data.row_format import RowError, as_json, kind_of

Call = dict[str, Any]
WRITTEN = "arguments_text"
"""The key of a call with the JSON text of its arguments, where that is written with other spaces or numbers
than this program would: templates that take text get it unchanged."""
_CALL_HINT = "Write a call as {“name”: …, “arguments”: {…}}, or remove the row."


def tools_in(value: Any, name: str) -> list[Any] | None:
    """The tools in column ``name``: a list of objects, or JSON text of one; ``None`` without any."""
    if value is None or value == "" or value == []:
        return None
    place = f"column “{name}”"
    found = _parsed(value, place, name) if isinstance(value, str) else _unfilled(value, place, name)
    if isinstance(found, Mapping) and isinstance(found.get("tools"), list):
        found = found["tools"]  # the toolConfig of Bedrock
    given = [found] if isinstance(found, Mapping) else found
    if not isinstance(given, (list, tuple)):
        raise _bad(f"has {kind_of(given)} in {place} instead of a list of tools", name, "bad_tools")
    tools = [_parsed(t, place, name) if isinstance(t, str) else t for t in given]
    tools = [declared for t in tools for declared in _declared(t)]
    return [_tool(t, i, place, name) for i, t in enumerate(tools, start=1)] or None


def _declared(given: Any) -> Sequence[Any]:
    """The tools in one entry: Gemini declares several functions at once, Bedrock wraps each."""
    if not isinstance(given, Mapping):
        return [given]
    several = given.get("functionDeclarations") or given.get("function_declarations")
    if isinstance(several, list):
        return several
    return [given["toolSpec"]] if isinstance(given.get("toolSpec"), Mapping) else [given]


def _tool(given: Any, number: int, place: str, name: str) -> dict[str, Any]:
    inner = given.get("function", given) if isinstance(given, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise _bad(f"has a tool without a name in {place} (tool {number})", name, "bad_tools")
    call = dict(given) if "function" in given else {"type": "function", "function": _flat(given)}
    clean_json(call, place, name)
    return call


def _flat(given: Mapping[str, Any]) -> dict[str, Any]:
    """A tool without the outer object; Anthropic and others name its parameters ``input_schema``."""
    names = {"input_schema": "parameters", "inputSchema": "parameters"}
    flat = {names.get(k, k): v for k, v in given.items() if (k, v) != ("type", "function")}
    schema = flat.get("parameters")
    if isinstance(schema, Mapping) and set(schema) == {"json"}:  # Bedrock
        flat["parameters"] = schema["json"]
    return flat


def calls_in(value: Any, place: str, name: str) -> list[Call]:
    """The calls of one message: a list, a single call, or JSON text of either."""
    found = _parsed(value, place, name) if isinstance(value, str) else _unfilled(value, place, name)
    given = [found] if isinstance(found, Mapping) else found
    if isinstance(given, (list, tuple)) and not given:
        raise _bad(f"has an empty list of tool calls in {place}", name)
    if not isinstance(given, (list, tuple)):
        raise _bad(f"has {kind_of(given)} instead of a list as the tool calls of {place}", name)
    return [_call(c, place, name) for c in given]


def _call(given: Any, place: str, name: str) -> Call:
    if isinstance(given, str):
        given = _parsed(given, place, name)
    inner = given.get("function", given) if isinstance(given, Mapping) else None
    if isinstance(given, Mapping) and isinstance(given.get("custom"), Mapping):
        called = given["custom"].get("name")
        raise _bad(
            f"calls the custom tool “{called}” with free text in {place}, which chat templates do not take",
            name,
        )
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise _bad(f"has a tool call without the name of the tool in {place}", name)
    written = arguments = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str):
        where = f"the arguments of the tool call “{inner['name']}” in {place}"
        arguments = _parsed(arguments, where, name) if arguments.strip() else {}
    if not isinstance(arguments, Mapping | None):
        raise _bad(
            f"has {kind_of(arguments)} as arguments of the tool call “{inner['name']}” in {place}",
            name,
        )
    function = {"name": inner["name"], "arguments": dict(arguments or {})}
    if isinstance(written, str) and written.strip() not in ("", as_json(arguments, place, name)):
        function[WRITTEN] = written
    call: Call = {"type": "function", "function": function}
    if isinstance(given.get("id"), str) and given["id"]:
        call["id"] = given["id"]
    clean_json(call, place, name)
    return call


def _unfilled(value: Any, place: str, name: str) -> Any:
    try:
        return without_filler(value)
    except RecursionError as error:
        raise _bad(f"contains a value in {place} that is nested too deeply", name) from error


def clean_json(value: Any, place: str, name: str) -> str:
    """The value as JSON text; raises ``RowError`` for values that JSON or UTF-8 cannot represent."""
    return as_json(_unfilled(value, place, name), place, name, _CALL_HINT, "bad_tool_call")


def _parsed(value: str, place: str, name: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _bad(f"contains text that is not valid JSON in {place} ({reason})", name) from error


def _bad(what: str, name: str, code: str = "bad_tool_call") -> RowError:
    return RowError(
        what,
        _CALL_HINT
        if code == "bad_tool_call"
        else "Write a tool as {“name”: …, “description”: …, “parameters”: {…}}, or remove the row.",
        column=name,
        code=code,
    )
