"""Spans of characters become labels and weights of tokens.

Why apart: a text is tokenized as a whole where no token lies across the border of a span, and in
pieces where one would. It must not know about messages or templates.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studio.preview.tokens import IGNORED

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoded:
    """A row as the model gets it, uncut: ``ids``, ``labels`` (-100 where nothing is trained) and
    ``weights``, the factor of each token's loss (0 where nothing is trained), or ``None`` when every
    trained token weighs 1. All have the same length."""

    ids: list[int]
    labels: list[int]
    weights: list[float] | None = None

    def cut(self, length: int) -> Encoded:
        """The first ``length`` tokens."""
        weights = None if self.weights is None else self.weights[:length]
        return Encoded(self.ids[:length], self.labels[:length], weights)

    def after(self, token: int, *, trained: bool) -> Encoded:
        """The row with one more token in front of it."""
        weights = None if self.weights is None else [1.0 if trained else 0.0, *self.weights]
        label = token if trained else IGNORED
        return Encoded([token, *self.ids], [label, *self.labels], weights)

    def before(self, token: int) -> Encoded:
        """The row with one more trained token at its end; it counts as much as the one before."""
        weights = None if self.weights is None else [*self.weights, *(self.weights[-1:] or [1.0])]
        return Encoded([*self.ids, token], [*self.labels, token], weights)


def encoded(ids: list[int], owners: Sequence[int], weights: Sequence[float]) -> Encoded:
    """The row whose token ``i`` belongs to span ``owners[i]``, or to none where that is -1.
    ``weights`` is per span, empty when all weigh 1."""
    labels = [t if o >= 0 else IGNORED for t, o in zip(ids, owners, strict=True)]
    if not weights:
        return Encoded(ids, labels)
    return Encoded(ids, labels, [float(weights[o]) if o >= 0 else 0.0 for o in owners])


def span_of_tokens(offsets: Any, spans: Sequence[Span]) -> list[int] | None:
    """The span that each token belongs to, -1 for none; ``None`` when a token lies across a border.

    ``offsets`` are (start, end) characters per token. Characters that no token claims (blanks that
    a tokenizer trims from its offsets) belong to the token after them.
    """
    places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = places[:, 0].copy(), np.maximum.accumulate(places[:, 1])
    starts[1:] = np.minimum(starts[1:], ends[:-1])
    owners = np.full(len(places), -1, dtype=np.int64)
    for number, (start, end) in enumerate(spans):
        first = int(np.searchsorted(ends, start, side="right"))
        after = int(np.searchsorted(starts, end, side="left"))
        if first < after and (starts[first] < start or ends[after - 1] > end):
            return None
        owners[first:after] = number
    return [int(v) for v in owners]


def token_pieces(tokenizer: Any, text: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Ids and their spans with the text cut at the spans' borders, each piece tokenized by itself.

    That is how the model meets the text when it is asked: the prompt is complete before the answer
    begins, so no token can lie across the border.
    """
    borders = sorted({0, len(text), *(b for span in spans for b in span)})
    ids: list[int] = []
    owners: list[int] = []
    for start, end in itertools.pairwise(borders):
        piece = tokenizer(text[start:end], add_special_tokens=False, verbose=False)["input_ids"]
        owner = next((n for n, (a, b) in enumerate(spans) if a <= start and end <= b), -1)
        ids += piece
        owners += [owner] * len(piece)
    return ids, owners
