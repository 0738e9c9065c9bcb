"""The KTO format: a prompt, an answer, and whether the answer is good.

For objectives that use such labels; supervised fine-tuning refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.columns import named
from studio.data.conversation import (
    answered,
    may_be_turns,
    turns_in,
    untrained,
    unused_message_keys,
)
from studio.data.formats._columns import PROMPT, other_names
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    column,
    judged,
    kind_of,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_PROMPT = other_names(PROMPT, "prompt")
_COMPLETION = ("response", "answer", "output")
_LABEL = ("kto_label", "desirable", "kto_tag")
COLUMNS = {"prompt_column": _PROMPT, "completion_column": _COMPLETION, "label_column": _LABEL}
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


class KtoSettings(Settings):
    """Names of the columns."""

    prompt_column: str = setting(
        "prompt",
        "Prompt column",
        "Column with the prompt: text or messages. Also detected: “question”, "
        "“instruction”, “query” and “input”.",
        min_length=1,
        max_length=200,
    )
    completion_column: str = setting(
        "completion",
        "Completion column",
        "Column with the answer: text or messages. Also detected: “response”, "
        "“answer” and “output”.",
        min_length=1,
        max_length=200,
    )
    label_column: str = setting(
        "label",
        "Label column",
        "Column that states whether the answer is good: true or false, or 1 or 0. "
        "Also detected: “kto_label”, “desirable” and “kto_tag”.",
        min_length=1,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a prompt, a completion and a label that is true or false."""
    prompt, label = named(columns, "prompt", _PROMPT), named(columns, "label", _LABEL)
    completion = named(columns, "completion", _COMPLETION)
    if prompt is None or completion is None or label is None:
        return NOT_MINE
    reason = f"the rows have the columns {prompt} and {completion}, and {label} is true or false"

    def fits(row: Row) -> bool:
        both = all(may_be_turns(row.get(n)) for n in (prompt, completion))
        return both and _truth(row.get(label)) is not None

    return judged(0.97, reason, rows, fits)


def convert(row: Row, settings: KtoSettings) -> Canonical:
    """The conversation and its label."""
    asked = column(row, settings, "prompt_column", _PROMPT)
    replied = column(row, settings, "completion_column", _COMPLETION)
    label = column(row, settings, "label_column", _LABEL)
    good = _truth(row[label])
    if good is None:
        said = f"“{row[label][:80]}”" if isinstance(row[label], str) else kind_of(row[label])
        raise RowError(
            f"has {said} in column “{label}” instead of true or false",
            "Enter true for a good answer and false for a bad one.",
            column=label,
            code="bad_label",
        )
    prompt = untrained(turns_in(row[asked], asked, "user"))
    reply = answered(turns_in(row[replied], replied, "assistant"), replied)
    return {"messages": [*prompt, *reply], "label": good}


def unused(row: Row, settings: KtoSettings) -> list[str]:
    """The keys of messages that are not used."""
    names = (
        column(row, settings, "prompt_column", _PROMPT),
        column(row, settings, "completion_column", _COMPLETION),
    )
    return [key for n in names for key in unused_message_keys(row[n], n, tools=False)]


def _truth(value: Any) -> bool | None:
    """Whether a label means good; CSV files contain it as text."""
    if isinstance(value, (bool, int, float)):
        return bool(value) if value in (0, 1) else None
    return _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None


VARIANT = Variant(
    kind="format",
    id="kto",
    title="Good or bad answers (KTO)",
    order=48,
    help="Columns prompt, completion and label: one answer, and whether it is good. "
    "For objectives that learn from such labels.",
    settings=KtoSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
