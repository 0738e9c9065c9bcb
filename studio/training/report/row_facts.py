"""The facts of one row for the report: its token counts and its findings.

They come from the encoder and the flags of ``studio.training.report.row_flags``, so that they match
the training. Totals over rows are in ``studio.training.report.totals``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from studio.errors import StudioError, errors_of
from studio.preview.tokens import RowFlags
from studio.training.data.by_number import Item
from studio.training.report.row_checks import damage, role_error, texts_of
from studio.training.report.row_flags import flags_of
from studio.training.tokens.encoder import Encoder, rendered
from studio.training.tokens.masks import Rendered, talks_of
from studio.training.tokens.spans import Conversation

GIANT = 1_000_000
"""Rows with more characters are neither tokenized nor checked further, which could take minutes."""


@dataclass(frozen=True)
class Facts:
    """One row.

    ``parts`` has the counts of each training row made from it; ``marks`` maps the codes of its
    findings (``studio.preview.report``) to short texts.
    """

    item: Item
    parts: tuple[RowFlags, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The stored row, if it can be read."""
        return self.item.row

    @property
    def divided(self) -> bool:
        """Whether the parts are pieces of one long text."""
        return len(self.parts) > 1 and self.parts[-1].continues

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the row before truncation: one number for each training row."""
        if self.divided:
            return (sum(p.total - p.continues for p in self.parts),)
        return tuple(p.total for p in self.parts)


def facts_of(title: str, encoder: Encoder, items: Sequence[Item]) -> list[Facts]:
    """The facts of each item, in order; rows are encoded together."""
    texts: list[list[Rendered]] = []
    refused: dict[int, StudioError] = {}
    talks = _talks(encoder, items)
    for place, item in enumerate(items):
        try:
            _refuse_other_shapes(item.row or {})
            if item.row is not None and is_giant(item.row):
                texts.append([])
                continue
            with errors_of(title):
                talk = talks.get(place)
                texts.append([] if item.row is None else rendered(encoder, dict(item.row), talk))
        except StudioError as error:
            refused[place] = error
            texts.append([])
    encoded = iter(encoder.encode([t for parts in texts for t in parts]) if any(texts) else ())
    return [
        _facts(
            encoder,
            item,
            tuple(f for t in parts for f in flags_of(encoder, t, next(encoded))),
            refused.get(place),
        )
        for place, (item, parts) in enumerate(zip(items, texts, strict=True))
    ]


def _talks(encoder: Encoder, items: Sequence[Item]) -> dict[int, Conversation | None]:
    """The conversations of the rows that are looked at closer, by place; rendered together."""
    rows = {
        place: dict(item.row)
        for place, item in enumerate(items)
        if item.row is not None and not is_giant(item.row)
    }
    talks = talks_of(encoder.tokenizer, list(rows.values()), encoder.train_on)
    return dict(zip(rows, talks, strict=True))


def _facts(
    encoder: Encoder, item: Item, parts: tuple[RowFlags, ...], refused: StudioError | None
) -> Facts:
    if item.row is None:
        code = "broken_file" if item.ends_file else "bad_row"
        return Facts(item, (), {code: _message(item.error) or "it cannot be read"})
    if refused is None and is_giant(item.row):
        size = sum(len(t) for t in texts_of(item.row))
        code = _long(item.row.get("text") is not None, encoder.long_text)
        return Facts(item, (), {code: f"{size:,} characters: too long for a detailed check"})
    marks = _text_marks(item.row)
    if refused is not None:
        return Facts(item, (), {"refused_row": _message(refused), **marks})
    facts = Facts(item, parts)
    return replace(facts, marks={**_token_marks(facts), **marks})


def is_giant(row: Mapping[str, Any]) -> bool:
    """Whether the row is too long to be tokenized interactively."""
    return sum(len(t) for t in texts_of(row)) > GIANT


def _message(error: StudioError | None) -> str:
    """The error and its hint."""
    return f"{error.sentence} {error.hint or ''}".strip() if error else ""


def _refuse_other_shapes(row: Mapping[str, Any]) -> None:
    """Raise ``StudioError`` for rows that supervised training does not support (as ``tokenize_dataset`` does)."""
    for name, what in (("chosen", "a preference"), ("label", "a label of a good or bad answer")):
        if row.get(name) is not None:
            raise StudioError(
                f"it is {what}, which this objective does not use.",
                hint="Choose another format in the Dataset node, or other data.",
            )


def _long(plain: bool, long_text: str) -> str:
    """The code of a row that is longer than the maximum length."""
    if not plain:
        return "cut_row"
    return "split_text" if long_text == "split" else "cut_text"


def _token_marks(facts: Facts) -> dict[str, str]:
    """The findings about the row's tokens."""
    parts, total = facts.parts, sum(facts.lengths)
    marks = {}
    if all(p.zero_trained for p in parts):
        cut = any(p.answer_cut for p in parts)
        marks["zero_trained"] = (
            "no answer to train on" if cut else "the answer is beyond the maximum length"
        )
    if any(p.cut for p in parts):
        marks[_long(parts[0].plain, "cut")] = f"{total} tokens"
    if facts.divided:
        marks["split_text"] = f"{total} tokens, {len(parts)} rows"
    if any(p.answer_cut for p in parts):
        marks["cut_answer"] = f"{total} tokens"
    if any(p.missing_end for p in parts):
        marks["missing_end"] = "no end token after the answer"
    if any(p.double_bos for p in parts):
        marks["double_bos"] = "starts with two BOS tokens"
    if any(p.empty_answer for p in parts):
        marks["empty_answer"] = "an empty answer"
    if any(p.one_token_answer for p in parts):
        marks["one_token_answer"] = "an answer of one token"
    return marks


def _text_marks(row: Mapping[str, Any]) -> dict[str, str]:
    marks = {"role_error": role_error(row)}
    marks["encoding"] = next((d for t in texts_of(row) if (d := damage(t))), "")
    return {code: words for code, words in marks.items() if words}
