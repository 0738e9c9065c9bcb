"""Which characters and which tokens of a row are trained.

Why: a wrong mask is the commonest silent failure of fine-tuning. The spans come from the chat
template's own structure: an answer is what rendering one more message adds after the generation
prompt. Where a template does not allow that proof, the next provable way is taken, or the row is
refused; text is never searched for marker strings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studio.training.chat import Message, TemplateRefused, render

IGNORED = -100
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """Text and the character spans that are trained; ``raw`` text still lacks BOS and end token."""

    text: str
    spans: tuple[Span, ...]
    raw: bool = False


class UnprovableMask(Exception):
    """The template gives no way to tell the answers apart from the rest."""


def render_row(tokenizer: Any, row: dict[str, Any], *, masked: bool = True) -> list[Rendered]:
    """The canonical row as one training text, or one per answer where only that can be proven.

    With ``masked`` off all of it is trained, so nothing has to be proven. Raises
    ``TemplateRefused`` or ``UnprovableMask``.
    """
    if row.get("messages"):
        if masked:
            return render_messages(tokenizer, row["messages"])
        whole = render(tokenizer, row["messages"])
        return [Rendered(whole, ((0, len(whole)),))]
    if row.get("text") is not None:
        return [Rendered(row["text"], ((0, len(row["text"])),), raw=True)]
    prompt, completion = row["prompt"], row["completion"]
    whole = prompt + completion
    return [Rendered(whole, ((len(prompt), len(whole)),), raw=True)]


def render_messages(tokenizer: Any, messages: Sequence[Message]) -> list[Rendered]:
    """A conversation with the span of every answer; see ``render_row``."""
    whole = render(tokenizer, messages)
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    asked = [i for i in answers if any(m["role"] != "system" for m in messages[:i])]
    spans = [answer_span(tokenizer, messages, i, whole) for i in asked]
    if all(s is not None for s in spans):
        return [Rendered(whole, tuple(s for s in spans if s is not None))]
    marked = _generation_spans(tokenizer, messages)
    if marked is not None:
        return [Rendered(whole, marked)]
    return [_one_answer(tokenizer, messages[: i + 1]) for i in asked]


def answer_span(tokenizer: Any, messages: Sequence[Message], index: int, whole: str) -> Span | None:
    """Where answer ``index`` stands in ``whole``: from the end of its generation prompt to the end
    of what rendering it adds. ``None`` when the template changes earlier text on the way."""
    head = render(tokenizer, messages[:index], ask=True)
    last = index == len(messages) - 1
    upto = whole if last else render(tokenizer, messages[: index + 1])
    if whole.startswith(upto) and upto.startswith(head) and len(upto) > len(head):
        return len(head), len(upto)
    return None


def _one_answer(tokenizer: Any, messages: Sequence[Message]) -> Rendered:
    whole = render(tokenizer, messages)
    span = answer_span(tokenizer, messages, len(messages) - 1, whole)
    if span is None:
        raise UnprovableMask
    return Rendered(whole, (span,))


def _generation_spans(tokenizer: Any, messages: Sequence[Message]) -> tuple[Span, ...] | None:
    """The spans that the template itself marks with ``{% generation %}``, if it does."""
    if "generation" not in str(tokenizer.chat_template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        _, marked = render_jinja_template(
            conversations=[[dict(m) for m in messages]],
            chat_template=tokenizer.chat_template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except Exception as error:  # a template may fail in any way that Jinja can
        raise TemplateRefused(str(error)) from error
    spans = tuple((int(a), int(b)) for a, b in marked[0])
    return spans or None


def token_labels(ids: list[int], offsets: Any, spans: Sequence[Span]) -> list[int] | None:
    """Labels of a text's tokens, or ``None`` when a token lies across the border of a span.

    ``offsets`` are (start, end) characters per token. Characters that no token claims (blanks that
    a tokenizer trims from its offsets) belong to the token after them.
    """
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = places[:, 0].copy(), np.maximum.accumulate(places[:, 1])
    starts[1:] = np.minimum(starts[1:], ends[:-1])
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    for start, end in spans:
        first = int(np.searchsorted(ends, start, side="right"))
        after = int(np.searchsorted(starts, end, side="left"))
        if first < after and (starts[first] < start or ends[after - 1] > end):
            return None
        labels[first:after] = ids[first:after]
    return [int(v) for v in labels]


def token_pieces(tokenizer: Any, text: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Ids and labels with the text cut at the spans' borders, each piece tokenized by itself.

    That is how the model meets the text when it is asked: the prompt is complete before the answer
    begins, so no token can lie across the border.
    """
    borders = sorted({0, len(text), *(b for span in spans for b in span)})
    ids: list[int] = []
    labels: list[int] = []
    for start, end in itertools.pairwise(borders):
        piece = tokenizer(text[start:end], add_special_tokens=False, verbose=False)["input_ids"]
        trained = any(a <= start and end <= b for a, b in spans)
        ids += piece
        labels += piece if trained else [IGNORED] * len(piece)
    return ids, labels
