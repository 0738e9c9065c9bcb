"""The prompt and completion format: two columns of text, or of lists of messages.

With the chat template, the row is a user message and its answer. Without it, the completion
directly follows the prompt, as for base models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import named
from studio.data.conversation import (
    answered,
    may_be_turns,
    message_keys,
    turns_in,
    untrained,
    unused_message_keys,
)
from studio.data.formats._columns import (
    BESIDE,
    BesideSettings,
    columns_beside,
    unused_beside,
    with_columns_beside,
)
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    answer_text,
    as_json,
    column,
    judged,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_PROMPT = ("question", "query", "input")
_COMPLETION = ("answer", "response", "output", "target")
COLUMNS = {"prompt_column": _PROMPT, "completion_column": _COMPLETION, **BESIDE}


class PromptCompletionSettings(BesideSettings):
    """Names of the columns, and whether the chat template is used."""

    prompt_column: str = setting(
        "prompt",
        "Prompt column",
        "Column with the prompt: text, or a list of messages. Also detected: "
        "“question”, “query” and “input”.",
        min_length=1,
        max_length=200,
    )
    completion_column: str = setting(
        "completion",
        "Completion column",
        "Column with the answer that the model learns: text, or a list of "
        "messages. Also detected: “answer”, “response”, “output” and “target”.",
        min_length=1,
        max_length=200,
    )
    chat_template: bool = setting(
        True,
        "Use the chat template",
        "If on, the prompt is a user message and the completion its answer, as a "
        "chat model expects. If off, the completion follows the prompt directly.",
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a prompt and a completion, or with a question and an answer."""
    prompt, completion = (
        named(columns, "prompt", _PROMPT),
        named(columns, "completion", _COMPLETION),
    )
    if prompt is None or completion is None:
        return NOT_MINE
    usual = (prompt, completion) == ("prompt", "completion")
    sure = 0.95 if usual else 0.7 if prompt == "question" else 0.8
    reason = f"the rows have the columns {prompt} and {completion}"
    return judged(sure, reason, rows, lambda r: may_be_turns(r.get(prompt)))


def convert(row: Row, settings: PromptCompletionSettings) -> Canonical:
    """A question and its answer, as messages or as plain text."""
    asked = column(row, settings, "prompt_column", _PROMPT)
    replied = column(row, settings, "completion_column", _COMPLETION)
    if settings.chat_template:
        prompt, completion = turns_in(row[asked], asked, "user"), row[replied]
        messages = [*untrained(prompt), *_reply(completion, replied)]
        return with_columns_beside(row, settings, messages, asked, replied)
    chats = [n for n in (asked, replied) if message_keys(row[n]) is not None]
    if chats:
        raise RowError(
            f"has messages in column “{chats[0]}”, which require the chat template",
            "Turn on “Use the chat template”, or choose columns that contain text.",
            column=chats[0],
            code="needs_template",
        )
    beside = columns_beside(row, settings)
    if beside:
        raise RowError(
            f"has something in column “{beside[0]}”, which needs the chat template",
            "Turn on “Use the chat template”, or leave the setting of this column empty to ignore it.",
            column=beside[0],
            code="needs_template",
        )
    return {"prompt": text(row, asked), "completion": answer_text(row, replied)}


def unused(row: Row, settings: PromptCompletionSettings) -> list[str]:
    """The keys of messages in the columns that are not used."""
    names = (
        column(row, settings, "prompt_column", _PROMPT),
        column(row, settings, "completion_column", _COMPLETION),
    )
    keys = [key for n in names for key in unused_message_keys(row[n], n)]
    return [*keys, *unused_beside(row, settings)]


def _reply(completion: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(completion, (Mapping, list)) and completion and not may_be_turns(completion):
        completion = as_json(completion, f"column “{name}”", name)
    return answered(turns_in(completion, name, "assistant"), name)


VARIANT = Variant(
    kind="format",
    id="prompt_completion",
    title="Prompt and completion",
    order=30,
    help="Two columns: a prompt and its completion, as text or as lists of messages.",
    settings=PromptCompletionSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
