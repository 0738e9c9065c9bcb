"""The instruction format, known from Alpaca: instruction, optional input, output.

The row becomes a user message (instruction, then the input after a blank line) and the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.formats._format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    named,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_INSTRUCTION = ("task",)
_INPUT = ("context",)
_OUTPUT = ("response", "answer", "completion", "target")


class InstructionSettings(Settings):
    """Names of the columns."""

    instruction_column: str = setting(
        "instruction", "Instruction column", "What is asked. “task” is found too.",
        min_length=1, max_length=200,
    )  # fmt: skip
    input_column: str = setting(
        "input", "Input column", "What the instruction is about; added after a blank line where a row "
        "has it. “context” is found too.", max_length=200,
    )  # fmt: skip
    output_column: str = setting(
        "output", "Output column", "The answer that is learnt. “response”, “answer”, “completion” and "
        "“target” are found too.", min_length=1, max_length=200,
    )  # fmt: skip
    system_column: str = setting(
        "system", "System column", "A system message, where a row has one.", advanced=True,
        max_length=200,
    )  # fmt: skip


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
    question = text(row, asked)
    extra = text(row, about, empty=True) if about else ""
    messages = [{"role": "user", "content": f"{question}\n\n{extra}" if extra else question}]
    preamble = text(row, system, empty=True) if system else ""
    if preamble:
        messages.insert(0, {"role": "system", "content": preamble})
    return {"messages": [*messages, {"role": "assistant", "content": text(row, answered)}]}


VARIANT = Variant(
    kind="format", id="instruction", title="Instruction (Alpaca)", order=20,
    help="Columns instruction, input and output; the input may be missing.",
    settings=InstructionSettings, payload=RowFormat(detect, convert),
)  # fmt: skip
