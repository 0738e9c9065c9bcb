"""The instruction format, known from Alpaca: instruction, optional input, output.

The row becomes a user message (instruction, then the input after a blank line) and the answer;
earlier turns (history) come before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.columns import named
from studio.data.conversation import Message
from studio.data.formats._columns import BESIDE, BesideSettings, unused_beside, with_columns_beside
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    answer_text,
    column,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_INSTRUCTION = ("task",)
_INPUT = ("context",)
_OUTPUT = ("response", "answer", "completion", "target")
COLUMNS = {
    "instruction_column": _INSTRUCTION,
    "input_column": _INPUT,
    "output_column": _OUTPUT,
    **BESIDE,
}


class InstructionSettings(BesideSettings):
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


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with an instruction and an output."""
    del rows
    asked = named(columns, "instruction", _INSTRUCTION)
    answered = named(columns, "output", _OUTPUT)
    if asked is None or answered is None:
        return NOT_MINE
    sure = 0.95 if (asked, answered) == ("instruction", "output") else 0.85
    if asked == "task" and named(columns, "input", _INPUT) is None:
        sure = 0.75  # often only the name of the task
    return Detection(sure, f"the rows have the columns {asked} and {answered}")


def convert(row: Row, settings: InstructionSettings) -> Canonical:
    """One question and its answer as messages."""
    asked = column(row, settings, "instruction_column", _INSTRUCTION)
    answered = column(row, settings, "output_column", _OUTPUT)
    about = optional_column(row, settings, "input_column", _INPUT)
    question = text(row, asked)
    extra = text(row, about, empty=True) if about else ""
    messages: list[Message] = [
        {"role": "user", "content": f"{question}\n\n{extra}" if extra else question},
        {"role": "assistant", "content": answer_text(row, answered)},
    ]
    return with_columns_beside(row, settings, messages)


VARIANT = Variant(
    kind="format",
    id="instruction",
    title="Instruction (Alpaca)",
    order=20,
    help="Columns instruction, input and output; the input may be missing. The "
    "columns system and history are used if present.",
    settings=InstructionSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused_beside),
)
