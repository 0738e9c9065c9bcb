"""Counts what happened to the rows while they were tokenized, and reports it as notices.

No row is truncated or excluded silently.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system.number_text import percent, quantity
from studio.training.tokens.left_out import WORDS
from studio.values import DatasetValue


@dataclass
class Counts:
    """Rows and tokens of one split; ``tokens`` and ``trained`` are counted after truncation.

    ``cut``, ``dropped``, ``split`` and ``divided`` count source rows that were truncated, excluded,
    turned into one row per answer, or divided into ``pieces`` of their text; ``ended`` those that
    already end with an end token. ``first`` maps these names to the line of the first such row.
    ``left_out`` counts source rows by what the chat template does to them (``left_out.WORDS``), and
    ``ways`` says what to do about it.
    """

    rows: int = 0
    tokens: int = 0
    trained: int = 0
    cut: int = 0
    dropped: int = 0
    split: int = 0
    divided: int = 0
    pieces: int = 0
    ended: int = 0
    first: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, line: int) -> None:
        """Count a row under ``cut``, ``dropped``, ``split``, ``divided`` or ``ended``."""
        setattr(self, what, getattr(self, what) + 1)
        self.first.setdefault(what, line)

    def note_left_out(self, code: str, line: int) -> None:
        """Count a row under what the chat template does to it."""
        self.left_out[code] = self.left_out.get(code, 0) + 1
        self.first.setdefault(code, line)

    def __add__(self, other: Counts) -> Counts:
        names = (f.name for f in fields(self) if f.type == "int")
        sums = {n: getattr(self, n) + getattr(other, n) for n in names}
        return Counts(
            **sums,
            first={**other.first, **self.first},
            left_out=dict(Counter(self.left_out) + Counter(other.left_out)),
            ways={**other.ways, **self.ways},
        )


def refuse_empty(
    context: StepContext, dataset: DatasetValue, counts: Counts, max_length: int
) -> None:
    """Raise ``StudioError`` when no training row remains."""
    if counts.rows:
        return
    reason = (
        f"{counts.cut} of them are longer than the maximum length of {max_length} tokens"
        if counts.cut
        else "they contain no answers that follow a question"
    )
    raise StudioError(
        f"no tokens of the {quantity(dataset.train_rows, 'row')} would be trained; {reason}.",
        title="Nothing to train on",
        hint="Raise the maximum length."
        if counts.cut
        else "Check that each row has a question and an answer.",
        field="max_length" if counts.cut else "train_on",
        code="nothing_to_train",
        file=dataset.sources[0] if dataset.sources else None,
    )


def tell_added_end(context: StepContext, tokenizer: Any) -> None:
    """Report that the chat template does not end answers and an end token was added."""
    if tokenizer.eos_token is None:
        context.notice(
            "The chat template adds no end token after answers, and the tokenizer has none: the "
            "model will not learn to stop.",
            "Choose another chat template.",
        )
        return
    context.notice(
        f"The chat template adds no end token after answers: “{tokenizer.eos_token}” is "
        "added after rows that end with an answer, and is trained.",
        "Set “End token” to Never to omit it.",
        "info",
    )


def tell(
    context: StepContext,
    train: Counts,
    held_out: Counts,
    max_length: int,
    plain_template: bool,
    *,
    plain_text: bool,
) -> None:
    """Report everything in which the training rows differ from the user's file."""
    both = train + held_out
    if both.cut:
        other = ", or set “Long plain text” to Split" if plain_text else ""
        context.notice(
            f"{_rows(both.cut)} longer than {max_length} tokens and truncated; the first is "
            f"line {both.first['cut']}.",
            f"Raise the maximum length to train on all tokens{other}.",
        )
    if both.divided:
        context.notice(
            f"{_rows(both.divided)} longer than {max_length} tokens and split into "
            f"{both.pieces} rows; the first is line {both.first['divided']}.",
            level="info",
        )
    if both.dropped:
        context.notice(
            f"{_rows(both.dropped)} skipped, because no token of them would be trained; the first "
            f"is line {both.first['dropped']}.",
            "Their answers are missing or lie beyond the max length.",
        )
    if both.split:
        context.notice(
            f"{_rows(both.split)} split into one row per answer, because the chat template "
            "renders earlier answers differently.",
            level="info",
        )
    for code, count in both.left_out.items():
        severity, one, many = WORDS[code]
        words = (one if count == 1 else many).format(n=count).removesuffix(".")
        context.notice(
            f"{words}; the first is line {both.first[code]}.", both.ways.get(code, ""), severity
        )
    if both.ended:
        single = both.ended == 1
        context.notice(
            f"{'1 row already ends' if single else f'{both.ended} rows already end'} an answer or a text "
            f"with an end token; no second one is added. The first is line {both.first['ended']}.",
            level="info",
        )
    if plain_template:
        context.notice(
            "The model has no chat template: rows are formatted as “role: content” lines, and "
            "answers end with the end-of-text token.",
            "The template is saved with the adapter, so that the tuned model is used the same way.",
            "info",
        )
    share = percent(train.trained / max(1, train.tokens))
    context.notice(
        f"{quantity(train.rows, 'training row')} with {quantity(train.tokens, 'token')}; the loss is "
        f"computed on {train.trained:,} of them ({share}).",
        level="info",
    )


def _rows(count: int) -> str:
    return "1 row was" if count == 1 else f"{count} rows were"
