"""The function calling format, known from xLAM: a question, the tools offered, and the calls that answer it.

The row becomes a user message and an assistant message with tool calls; the tools are offered to the
chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import named
from studio.data.conversation import Message, unused_call_keys
from studio.data.formats._columns import (
    BESIDE,
    PROMPT,
    BesideSettings,
    other_names,
    unused_beside,
    with_columns_beside,
)
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    judged,
    listed,
    text,
)
from studio.data.tool_calls import calls_in
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_QUESTION = other_names(PROMPT, "query")
_CALLS = ("calls", "tool_calls", "function_calls", "function_call", "answer")
COLUMNS = {"question_column": _QUESTION, "calls_column": _CALLS, **BESIDE}


class FunctionCallingSettings(BesideSettings):
    """Names of the columns."""

    question_column: str = setting(
        "query",
        "Question column",
        "Column with the question. Also detected: “prompt”, “question”, “instruction” and “input”.",
        min_length=1,
        max_length=200,
    )
    calls_column: str = setting(
        "answers",
        "Calls column",
        "Column with the calls that the model learns: a list of {name, arguments}, or JSON text. "
        "Also detected: “calls”, “tool_calls”, “function_calls” and “answer”.",
        min_length=1,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a question, tools, and a list of calls."""
    asked = named(columns, "query", _QUESTION)
    tools = named(columns, "tools", BESIDE["tools_column"])
    calls = named(columns, "answers", _CALLS)
    if asked is None or tools is None or calls is None:
        return NOT_MINE
    reason = f"the rows have the columns {asked} and {tools}, and {calls} holds tool calls"
    return judged(0.97, reason, rows, lambda r: _holds_calls(r.get(calls)))


def _holds_calls(value: Any) -> bool:
    found = listed(value)
    return bool(found) and all(isinstance(c, Mapping) and "name" in c for c in found or ())


def convert(row: Row, settings: FunctionCallingSettings) -> Canonical:
    """The question and the calls as messages."""
    asked = column(row, settings, "question_column", _QUESTION)
    called = column(row, settings, "calls_column", _CALLS)
    calls = calls_in(row[called], f"column “{called}”", called)
    messages: list[Message] = [
        {"role": "user", "content": text(row, asked)},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ]
    return with_columns_beside(row, settings, messages)


def unused(row: Row, settings: FunctionCallingSettings) -> list[str]:
    """The keys of the calls that are not used."""
    called = column(row, settings, "calls_column", _CALLS)
    keys = unused_call_keys(listed(row[called]) or (), called)
    return [*keys, *unused_beside(row, settings)]


VARIANT = Variant(
    kind="format",
    id="function_calling",
    title="Function calls (xLAM)",
    order=14,
    help="Columns query, tools and answers: a question, the available tools, and the correct calls.",
    settings=FunctionCallingSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
