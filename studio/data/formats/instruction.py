"""The instruction format, known from Alpaca: instruction, optional input, output.

The row becomes a user message (instruction, then the input after a blank line) and the answer;
earlier turns (history) come before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.conversation import Message
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
    column,
    kind_of,
    listed,
    named,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_INSTRUCTION = ("task",)
_INPUT = ("context",)
_OUTPUT = ("response", "answer", "completion", "target")
COLUMNS = {
    "instruction_column": _INSTRUCTION,
    "input_column": _INPUT,
    "output_column": _OUTPUT,
    "system_column": (),
    "history_column": (),
}


class InstructionSettings(Settings):
    """Names of the columns."""

    instruction_column: str = setting(
        "instruction",
        "Instruction column",
        "Column with the instruction. Also detected: “task”.",
        min_length=1,
        max_length=200,
    )
    input_column: str = setting(
        "input",
        "Input column",
        "Column with the input of the instruction, which is added after a blank "
        "line. May be missing. Also detected: “context”.",
        max_length=200,
    )
    output_column: str = setting(
        "output",
        "Output column",
        "Column with the answer that the model learns. Also detected: “response”, "
        "“answer”, “completion” and “target”.",
        min_length=1,
        max_length=200,
    )
    system_column: str = setting(
        "system",
        "System column",
        "Column with a system message. May be missing.",
        advanced=True,
        max_length=200,
    )
    history_column: str = setting(
        "history",
        "History column",
        "Column with earlier turns: a list of [question, answer] pairs, which "
        "precede the instruction. May be missing. Leave empty to ignore it.",
        advanced=True,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with an instruction and an output."""
    del rows
    asked = named(columns, "instruction", _INSTRUCTION)
    answered = named(columns, "output", _OUTPUT)
    if asked is None or answered is None:
        return NOT_MINE
    sure = 0.95 if (asked, answered) == ("instruction", "output") else 0.85
    return Detection(sure, f"the rows have the columns {asked} and {answered}")


def convert(row: Row, settings: InstructionSettings) -> Canonical:
    """One question and its answer as messages."""
    asked = column(row, settings, "instruction_column", _INSTRUCTION)
    answered = column(row, settings, "output_column", _OUTPUT)
    about = optional_column(row, settings, "input_column", _INPUT)
    system = optional_column(row, settings, "system_column")
    history = optional_column(row, settings, "history_column")
    question = text(row, asked)
    extra = text(row, about, empty=True) if about else ""
    preamble = text(row, system, empty=True) if system else ""
    messages: list[Message] = [{"role": "system", "content": preamble}] if preamble else []
    messages += _history(row[history], history) if history else []
    messages.append({"role": "user", "content": f"{question}\n\n{extra}" if extra else question})
    return {"messages": [*messages, {"role": "assistant", "content": text(row, answered)}]}


def _history(value: Any, name: str) -> list[Message]:
    """The earlier turns of a row."""
    if value is None or value == "":
        return []
    pairs = listed(value)
    if pairs is None:
        raise _bad_history(f"has {kind_of(value)} in column “{name}”", name)
    return [m for i, pair in enumerate(pairs, start=1) for m in _pair(pair, i, name)]


def _pair(pair: Any, number: int, name: str) -> list[Message]:
    place = f"turn {number} of column “{name}”"
    if not isinstance(pair, (list, tuple)):
        raise _bad_history(f"has {kind_of(pair)} in {place}", name)
    if len(pair) != 2:
        raise _bad_history(f"has {len(pair)} texts in {place}", name)
    said = [as_text(t, place, name) for t in pair]
    return [{"role": r, "content": c} for r, c in zip(("user", "assistant"), said, strict=True)]


def _bad_history(what: str, name: str) -> RowError:
    return RowError(
        f"{what} instead of a pair of question and answer",
        "Write earlier turns as [[question, answer], …], or leave “History column” empty.",
        column=name,
        code="bad_history",
    )


VARIANT = Variant(
    kind="format",
    id="instruction",
    title="Instruction (Alpaca)",
    order=20,
    help="Columns instruction, input and output; the input may be missing. The "
    "columns system and history are used if present.",
    settings=InstructionSettings,
    payload=RowFormat(detect, convert, COLUMNS),
)
