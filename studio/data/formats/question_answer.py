"""The question and answer format, with an optional context and optional choices.

Known from SQuAD, BoolQ, ARC, MMLU and GSM8K. The row becomes a user message (context, question,
lettered choices) and the answer. The notations of choices are in ``_choices``.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from studio.data.columns import has_content, named, normalized, unused_keys
from studio.data.formats._choices import (
    CHOICE_KEYS,
    LETTERS,
    Choices,
    choices_in,
    names_texts,
    right_choice,
)
from studio.data.formats._columns import BESIDE, BesideSettings, unused_beside, with_columns_beside
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_json,
    as_text,
    column,
    judged,
    listed,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_QUESTION = ("question_stem", "query", "ctx")
_ANSWER = (
    "answers",
    "answerKey",
    "answer_key",
    "correct_answer",
    "correct",
    "final_answer",
    "response",
    "label",
    "answer_idx",
)
_CONTEXT = ("passage", "paragraph", "article", "support", "story")
_CHOICES = ("options", "endings")
_CHOICE = re.compile(r"(?:option|opt|op|choice)?([a-h])")
COLUMNS = {
    "question_column": _QUESTION,
    "answer_column": _ANSWER,
    "context_column": _CONTEXT,
    "choices_column": _CHOICES,
    **BESIDE,
}
_ASK = {
    "letter": "Answer with the letter of the right choice.",
    "text": "Answer with the text of the right choice.",
    "letter_and_text": "Answer with the letter and the text of the right choice.",
}


class QuestionAnswerSettings(BesideSettings):
    """Names of the columns, and the form of choices and answers."""

    question_column: str = setting(
        "question",
        "Question column",
        "Column with the question. Also detected: “question_stem”, “query” and “ctx”.",
        min_length=1,
        max_length=200,
    )
    answer_column: str = setting(
        "answer",
        "Answer column",
        "Column with the answer: text, yes or no, the answers of SQuAD, or, with "
        "choices, the number, letter or text of the correct choice. Also detected: "
        "“answers”, “answerKey”, “correct_answer”, “correct”, “final_answer”, “response” "
        "and “label”.",
        min_length=1,
        max_length=200,
    )
    context_column: str = setting(
        "context",
        "Context column",
        "Column with a text that the question refers to, which is placed before "
        "the question. May be missing. Also detected: “passage”, “paragraph”, "
        "“article”, “support” and “story”.",
        max_length=200,
    )
    choices_column: str = setting(
        "choices",
        "Choices column",
        "Column with the choices, which are shown with the letters A, B, C … May "
        "be missing. Also detected: “options” and “endings”.",
        max_length=200,
    )
    answer_with: Literal["letter", "text", "letter_and_text"] = setting(
        "letter",
        "Answer with",
        "What the model answers if there are choices. The letter is easiest to "
        "evaluate; the text gives more tokens to train on per row.",
        choice_labels={"letter": "Letter", "text": "Text", "letter_and_text": "Letter and text"},
    )
    mix_choices: bool = setting(
        False,
        "Shuffle the choices",
        "Shuffle the choices of each row; the order of a row is always the same. "
        "Turn this on if the correct choice is mostly at the same position, "
        "because the model would learn the position. Leave it off if choices refer "
        "to each other (“both A and B”).",
    )
    first_number: int = setting(
        0,
        "Number of the first choice",
        "Whether the file numbers its choices from 0 or from 1. Used only if the "
        "answer is a number.",
        ge=0,
        le=1,
        advanced=True,
    )
    no_answer_text: str = setting(
        "",
        "Text for no answer",
        "Answer for questions without an answer, as in SQuAD 2. If empty, such a row is an error.",
        max_length=2000,
        advanced=True,
        placeholder="The text does not say.",
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a question and an answer; choices or a context increase the confidence."""
    asked = named(columns, "question", _QUESTION)
    replied = named(columns, "answer", _ANSWER)
    choices, context = named(columns, "choices", _CHOICES), named(columns, "context", _CONTEXT)
    if asked is None or replied is None or (replied == "label" and choices is None):
        return NOT_MINE
    names = [n for n in (context, asked, choices, replied) if n]
    sure = 0.96 if choices else 0.92 if context else 0.85
    reason = f"the rows have the columns {', '.join(names[:-1])} and {names[-1]}"
    if choices and _always_first([(r.get(choices), r.get(replied)) for r in rows]):
        reason += "; the correct choice is always the first, so consider “Shuffle the choices”"
    return judged(sure, reason, rows, lambda r: not isinstance(r.get(asked), (list, dict)))


def _always_first(pairs: Sequence[tuple[Any, Any]]) -> bool:
    """Whether the correct choice is always the first one."""
    try:
        first = [right_choice(a, choices_in(c, ""), 0, "") == 0 for c, a in pairs]
    except RowError:
        return False
    return len(first) > 4 and all(first)


def convert(row: Row, settings: QuestionAnswerSettings) -> Canonical:
    """The question with its context and choices, and the answer, as messages."""
    asked = column(row, settings, "question_column", _QUESTION)
    replied = column(row, settings, "answer_column", _ANSWER)
    about = optional_column(row, settings, "context_column", _CONTEXT)
    offered = optional_column(row, settings, "choices_column", _CHOICES)
    _refuse_spread_choices(row, settings, offered)
    question, context = text(row, asked), text(row, about, empty=True) if about else ""
    if offered and row[offered] not in (None, "", [], {}):
        question, answer = _with_choices(question, row, offered, replied, settings)
    else:
        answer = _plain_answer(row[replied], replied, settings)
    asking = f"{context}\n\n{question}" if context else question
    messages = [{"role": "user", "content": asking}, {"role": "assistant", "content": answer}]
    return with_columns_beside(row, settings, messages)


def _refuse_spread_choices(row: Row, settings: QuestionAnswerSettings, offered: str | None) -> None:
    """Raise ``RowError`` for choices in columns of their own, without which the answer means nothing."""
    if offered or not settings.choices_column:
        return
    names = _spread_choices(tuple(row))
    if len(names) > 1 and all(has_content(row[n]) for n in names[:2]):
        listed_names = f"{', '.join(names[:-1])} and {names[-1]}"
        raise RowError(
            f"has its choices in the columns {listed_names}, and not in one column",
            "Write them as a list into one column “choices”, or use the format “Custom template”. Leave "
            "“Choices column” empty to train without the choices.",
            column=names[0],
            code="spread_choices",
        )


@lru_cache(maxsize=1024)
def _spread_choices(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns A, B, C ..., also named “option_a” or “choice A”, in their order."""
    found = {m[1]: c for c in columns if (m := _CHOICE.fullmatch(normalized(c)))}
    return tuple(found[letter] for letter in itertools.takewhile(found.__contains__, "abcdefgh"))


def unused(row: Row, settings: QuestionAnswerSettings) -> list[str]:
    """The answers after the first one, where several are given, and other keys of the choices."""
    return [*_unused_here(row, settings), *unused_beside(row, settings)]


def _unused_here(row: Row, settings: QuestionAnswerSettings) -> list[str]:
    replied = column(row, settings, "answer_column", _ANSWER)
    offered = optional_column(row, settings, "choices_column", _CHOICES)
    given = _alternatives(row[replied], replied)
    if offered and has_content(row[offered]):
        keys = unused_keys([row[offered]], CHOICE_KEYS) if names_texts(row[offered]) else []
        return [f"{offered}.{key}" for key in keys]
    if not given:
        return []
    others = any(has_content(a) and a != given[0] for a in given)
    return [f"{replied}: all but the first"] if others else []


def _with_choices(
    question: str, row: Row, offered: str, replied: str, settings: QuestionAnswerSettings
) -> tuple[str, str]:
    """The question with lettered choices, and the answer in the form set by the user."""
    choices = choices_in(row[offered], offered)
    right = right_choice(row[replied], choices, settings.first_number, replied)
    order = _order(question, choices) if settings.mix_choices else range(len(choices.texts))
    lines = [f"{LETTERS[i]}. {choices.texts[c]}" for i, c in enumerate(order)]
    letter, words = LETTERS[list(order).index(right)], choices.texts[right]
    answer = {"letter": letter, "text": words, "letter_and_text": f"{letter}. {words}"}
    asking = "\n".join([question, *lines])
    return f"{asking}\n\n{_ASK[settings.answer_with]}", answer[settings.answer_with]


def _order(question: str, choices: Choices) -> list[int]:
    """A permutation of the choices that depends only on the row's text."""
    order = list(range(len(choices.texts)))
    random.Random("\0".join((question, *choices.texts))).shuffle(order)
    return order


def _plain_answer(value: Any, name: str, settings: QuestionAnswerSettings) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    given = _alternatives(value, name)
    if given is not None:
        value = given[0] if given else None
    if value in (None, "") and settings.no_answer_text:
        return settings.no_answer_text
    if given == []:
        raise RowError(
            f"has no answer in column “{name}”",
            "Set “Text for no answer” in the format settings, or remove the row.",
            column=name,
            code="empty_content",
        )
    if isinstance(value, (Mapping, list, tuple)):
        return as_json(value, f"column “{name}”", name)
    return as_text(value, f"column “{name}”", name)


def _alternatives(value: Any, name: str) -> list[Any] | None:
    """The answers of a row that may give several for one question, as SQuAD does; ``None`` for one."""
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    elif not name.rstrip().lower().endswith("s"):
        return None
    return listed(value) if not isinstance(value, str) else None


VARIANT = Variant(
    kind="format",
    id="question_answer",
    title="Question and answer",
    order=34,
    help="Columns question and answer, optionally with a context or choices, as in "
    "SQuAD, BoolQ, ARC, MMLU and GSM8K.",
    settings=QuestionAnswerSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
