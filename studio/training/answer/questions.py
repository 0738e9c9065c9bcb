"""Questions for an evaluation, made from rows, and the exact match of answers.

A question is rendered exactly as in training, and the expected answer depends on the chat template.
No model is loaded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system.number_text import quantity
from studio.training.data.arrow import open_rows
from studio.training.tokens.chat import Message, TemplateRefused
from studio.training.tokens.ends import Ends
from studio.training.tokens.masks import conversation_of
from studio.training.tokens.spans import Conversation, after_thoughts
from studio.values import DatasetValue


@dataclass(frozen=True)
class Question:
    """A question made from a row: its text for people, the prompt's token ids, and the expected
    answer.

    ``taught`` is the answer as the chat template writes it in training: some templates put an empty
    block of thoughts before it. ``tokens`` is its length with everything that the template adds,
    such as the end token.
    """

    shown: str
    ids: list[int]
    expected: str
    taught: str = ""
    tokens: int = 0

    def is_answered_by(self, answer: str) -> bool:
        """Whether ``answer`` equals the expected one, ignoring case, surrounding whitespace and the
        thoughts before an answer."""
        return _plain(answer) in (_plain(self.expected), _plain(self.taught or self.expected))


def questions_of(
    context: StepContext, dataset: DatasetValue, tokenizer: Any, wanted: int, bos: str = "auto"
) -> list[Question]:
    """Evenly spaced rows of the held-out split, or of all rows if there is none.

    ``bos`` is the training's setting for BOS before raw text (``ends``).
    """
    rows = open_rows(Path(dataset.path) / ("validation" if dataset.validation_rows else "train"))
    count = min(wanted or len(rows), len(rows))
    picked = (rows[i * len(rows) // count] for i in range(count))
    ends = Ends(tokenizer, bos=bos)
    asked = (_question(context, row, tokenizer, ends) for row in picked)
    questions = [q for q in asked if q is not None]
    if not questions:
        raise StudioError(
            f"the rows of {file_names(dataset)} contain no question with an answer.",
            title="Nothing to evaluate",
            hint="Use rows with a question and an answer instead of plain text.",
            field="dataset",
            code="nothing_to_ask",
            file=dataset.sources[0] if dataset.sources else None,
        )
    left_out = count - len(questions)
    if left_out:
        context.notice(
            f"{quantity(left_out, 'row')} without a question and an answer "
            f"{'was' if left_out == 1 else 'were'} excluded."
        )
    return questions


def file_names(dataset: DatasetValue) -> str:
    """The names of the files that the rows come from."""
    return ", ".join(Path(s).name for s in dataset.sources)


def _question(
    context: StepContext, row: dict[str, Any], tokenizer: Any, ends: Ends
) -> Question | None:
    """The row up to its last text answer, or ``None`` if it has no question with one."""

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    if row["prompt"] is not None:
        ids = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        if ends.bos_first and ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        return Question(row["prompt"], ids, row["completion"], tokens=length(row["completion"]))
    talk = conversation_of(tokenizer, row)
    last = _last_answer(talk.messages)
    if last == 0:
        return None
    try:
        text = talk.text(last, ask=True)
    except TemplateRefused as error:
        raise StudioError(
            f"the chat template of the model rejects line {row['line']} of "
            f"{Path(row['source']).name}: {error}.",
            code="template_refused",
            file=row["source"],
            line=row["line"],
        ) from error
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    shown, expected = talk.messages[last - 1]["content"], talk.messages[last]["content"]
    written = _written(talk.first(last + 1), text)
    if written is None:
        return Question(shown, ids, expected, tokens=length(expected))
    taught = tokenizer.decode(
        tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"],
        skip_special_tokens=True,
    )
    return Question(shown, ids, expected, str(taught), length(written))


def _last_answer(messages: Sequence[Message]) -> int:
    """The index of the last text answer; tool calls do not count. 0 if there is none after a question."""
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m["content"]]
    return answers[-1] if answers else 0


def _written(talk: Conversation, asked: str) -> str | None:
    """What the template adds to the question for the answer, or ``None`` if it cannot be told."""
    try:
        full_text = talk.text()
    except TemplateRefused:
        return None
    return full_text[len(asked) :] if full_text.startswith(asked) else None


LONGEST_ANSWER = 4096
"""The maximum number of tokens of an answer."""


def answer_length(questions: Sequence[Question]) -> int:
    """The maximum number of tokens to generate: the longest expected answer and a quarter more."""
    longest = max(q.tokens for q in questions)
    return min(LONGEST_ANSWER, longest + max(8, longest // 4))


def exact_match(answers: Sequence[str], questions: Sequence[Question]) -> float:
    """The share of questions that are answered as expected."""
    right = [q.is_answered_by(answer) for answer, q in zip(answers, questions, strict=True)]
    return sum(right) / len(right)


def _plain(text: str) -> str:
    return (after_thoughts(text) or text.strip()).casefold()
