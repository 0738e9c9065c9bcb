"""The preference format: a prompt with a chosen and a rejected answer, as used by DPO.

Both answers may be text or messages; without a prompt column, the prompt is their common beginning.
For objectives that learn from preferences; supervised fine-tuning refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import named
from studio.data.conversation import (
    Message,
    message_keys,
    messages_in,
    turns_in,
    unused_message_keys,
)
from studio.data.formats._columns import BESIDE, PROMPT, SystemSettings, other_names, with_system
from studio.data.formats._pairs import Split, is_transcript, split_messages, split_texts, transcript
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
    column,
    judged,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_PROMPT = other_names(PROMPT, "prompt")
_CHOSEN = ("preferred", "accepted", "chosen_response")
_REJECTED = ("dispreferred", "rejected_response")
_SYSTEM = BESIDE["system_column"]
COLUMNS = {
    "prompt_column": _PROMPT,
    "chosen_column": _CHOSEN,
    "rejected_column": _REJECTED,
    "system_column": _SYSTEM,
}


class PreferenceSettings(SystemSettings):
    """Names of the columns."""

    prompt_column: str = setting(
        "prompt",
        "Prompt column",
        "Column with the prompt: text or messages. If it is missing, the common "
        "beginning of both answers is the prompt. Also detected: “question”, "
        "“instruction”, “query” and “input”.",
        max_length=200,
    )
    chosen_column: str = setting(
        "chosen",
        "Chosen column",
        "Column with the better answer: text, messages, or a complete "
        "conversation. Also detected: “preferred”, “accepted” and "
        "“chosen_response”.",
        min_length=1,
        max_length=200,
    )
    rejected_column: str = setting(
        "rejected",
        "Rejected column",
        "Column with the worse answer, in the same form as the better one. Also "
        "detected: “dispreferred” and “rejected_response”.",
        min_length=1,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a chosen and a rejected answer of the same kind."""
    chosen, rejected = named(columns, "chosen", _CHOSEN), named(columns, "rejected", _REJECTED)
    if chosen is None or rejected is None:
        return NOT_MINE
    prompt = named(columns, "prompt", _PROMPT)
    sides = (chosen, rejected)
    if prompt:
        reason = f"the rows have the columns {prompt}, {chosen} and {rejected}"
        return judged(0.99, reason, rows, lambda r: all(_is_answer(r.get(n)) for n in sides))
    reason = f"the rows have the columns {chosen} and {rejected}"
    conversations = judged(
        0.98,
        f"{reason}, which are complete conversations",
        rows,
        lambda r: all(_is_conversation(r.get(n)) for n in sides),
    )
    if conversations.confidence:
        return conversations
    reason += ", and their common beginning is the prompt"
    return judged(0.6, reason, rows, lambda r: all(_is_answer(r.get(n)) for n in sides))


def _is_answer(value: Any) -> bool:
    return not isinstance(value, (list, Mapping)) or message_keys(value) is not None


def _is_conversation(value: Any) -> bool:
    return is_transcript(value) or message_keys(value) is not None


def convert(row: Row, settings: PreferenceSettings) -> Canonical:
    """The prompt's messages, and what follows them in each answer."""
    names = (
        column(row, settings, "chosen_column", _CHOSEN),
        column(row, settings, "rejected_column", _REJECTED),
    )
    asked = optional_column(row, settings, "prompt_column", _PROMPT)
    prompt, chosen, rejected = _split(row, asked, names)
    _refuse_no_pair(chosen, rejected, names)
    system = optional_column(row, settings, "system_column", _SYSTEM)
    prompt = with_system(row, system, prompt)
    return {"messages": prompt, "chosen": chosen, "rejected": rejected}


def unused(row: Row, settings: PreferenceSettings) -> list[str]:
    """The keys of messages that are not used."""
    names = [
        optional_column(row, settings, "prompt_column", _PROMPT),
        column(row, settings, "chosen_column", _CHOSEN),
        column(row, settings, "rejected_column", _REJECTED),
    ]
    keys = [key for n in names if n for key in unused_message_keys(row[n], n, tools=False)]
    return list(dict.fromkeys(keys))


def _split(row: Row, asked: str | None, names: tuple[str, str]) -> Split:
    """The prompt and the two answers, from any of the notations."""
    values = [row[n] for n in names]
    if all(is_transcript(v) for v in values):
        return split_messages(transcript(values[0], names[0]), transcript(values[1], names[1]))
    if any(message_keys(v) is not None or isinstance(v, (list, tuple)) for v in values):
        return _of_messages(row, asked, names)
    said = [text(row, n) for n in names]
    if asked is not None:
        return turns_in(row[asked], asked, "user"), _answer(said[0]), _answer(said[1])
    _refuse_equal(said[0] == said[1], names)
    prompt, chosen, rejected = split_texts(said[0], said[1], names)
    sides = [
        as_text(t, f"column “{n}” after the shared prompt", n)
        for t, n in zip((chosen, rejected), names, strict=True)
    ]
    return [{"role": "user", "content": prompt}], _answer(sides[0]), _answer(sides[1])


def _of_messages(row: Row, asked: str | None, names: tuple[str, str]) -> Split:
    """Lists of messages: answers to the prompt column, or complete conversations with a common beginning."""
    sides = [
        messages_in(v, n) if isinstance(v, (list, tuple)) else turns_in(v, n, "assistant")
        for v, n in ((row[n], n) for n in names)
    ]
    _refuse_equal(sides[0] == sides[1], names)
    if asked is None or any(m["role"] == "user" for side in sides for m in side):
        return split_messages(sides[0], sides[1])
    return turns_in(row[asked], asked, "user"), sides[0], sides[1]


def _answer(said: str) -> list[Message]:
    return [{"role": "assistant", "content": said}]


def _refuse_no_pair(
    chosen: Sequence[Message], rejected: Sequence[Message], names: tuple[str, str]
) -> None:
    _refuse_equal(chosen == rejected, names)
    for side, name in zip((chosen, rejected), names, strict=True):
        if not side or side[0]["role"] != "assistant":
            said = f"continues with a message of the {side[0]['role']}" if side else "ends"
            raise RowError(
                f"has no answer in column “{name}”: after the shared prompt it {said}",
                "Both columns need the same prompt, followed by an assistant message.",
                column=name,
                code="no_answer",
            )


def _refuse_equal(equal: bool, names: tuple[str, str]) -> None:
    if equal:
        raise RowError(
            f"has the same answer in columns “{names[0]}” and “{names[1]}”",
            "Remove the row: there is no preference to learn.",
            column=names[1],
            code="same_pair",
        )


VARIANT = Variant(
    kind="format",
    id="preference",
    title="Preference pairs (DPO)",
    order=44,
    help="Columns prompt, chosen and rejected: a better and a worse answer, as text "
    "or messages. For objectives that learn from preferences.",
    settings=PreferenceSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
