"""The prompt and completion format; question and answer columns are found too.

With the chat template on, the row is a user message and the answer to it; off, the completion
follows the prompt letter by letter, as base models are tuned.
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
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_PROMPT = ("question", "query", "input")
_COMPLETION = ("answer", "response", "output", "target")


class PromptCompletionSettings(Settings):
    """Names of the columns, and whether the chat template is put around them."""

    prompt_column: str = setting(
        "prompt", "Prompt column", "What is asked. “question”, “query” and “input” are found too.",
        min_length=1, max_length=200,
    )  # fmt: skip
    completion_column: str = setting(
        "completion", "Completion column", "The answer that is learnt. “answer”, “response”, “output” "
        "and “target” are found too.", min_length=1, max_length=200,
    )  # fmt: skip
    chat_template: bool = setting(
        True, "Use the chat template", "On: the prompt is a user's message and the completion the "
        "answer, as a chat model expects. Off: the completion follows the prompt with nothing "
        "between them.",
    )  # fmt: skip


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a prompt and a completion, or with a question and an answer, all of them text."""
    prompt, completion = (
        named(columns, "prompt", _PROMPT),
        named(columns, "completion", _COMPLETION),
    )
    if prompt is None or completion is None or not all(_fits(r, prompt, completion) for r in rows):
        return NOT_MINE
    sure = 0.95 if (prompt, completion) == ("prompt", "completion") else 0.8
    return Detection(sure, f"the rows have the columns {prompt} and {completion}")


def _fits(row: Row, prompt: str, completion: str) -> bool:
    values = (row.get(prompt), row.get(completion))
    return not any(isinstance(v, (list, dict)) for v in values)


def convert(row: Row, settings: PromptCompletionSettings) -> Canonical:
    """A question and its answer, as messages or as plain text."""
    asked = column(row, settings, "prompt_column", _PROMPT)
    answered = column(row, settings, "completion_column", _COMPLETION)
    prompt, completion = text(row, asked), text(row, answered)
    if not settings.chat_template:
        return {"prompt": prompt, "completion": completion}
    return {
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ]
    }


VARIANT = Variant(
    kind="format", id="prompt_completion", title="Prompt and completion", order=30,
    help="Two columns: what is asked and what is answered.",
    settings=PromptCompletionSettings, payload=RowFormat(detect, convert),
)  # fmt: skip
