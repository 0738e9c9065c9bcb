"""Converts character spans into labels and weights of tokens.

A text is tokenized at once if no token crosses the boundary of a span, and otherwise in pieces.
Independent of messages and templates.
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
    """A row before truncation: ``ids``, ``labels`` (-100 for tokens that are not trained) and
    ``weights``, the factor of each token's loss, or ``None`` when all trained tokens have weight
    1.

    All have the same length; weights of tokens that are not trained are 0.
    """

    ids: list[int]
    labels: list[int]
    weights: list[float] | None = None

    def cut(self, length: int) -> Encoded:
        """The first ``length`` tokens."""
        weights = None if self.weights is None else self.weights[:length]
        return Encoded(self.ids[:length], self.labels[:length], weights)

    def after(self, token: int, *, trained: bool) -> Encoded:
        """The row with one token prepended."""
        weights = None if self.weights is None else [1.0 if trained else 0.0, *self.weights]
        label = token if trained else IGNORED
        return Encoded([token, *self.ids], [label, *self.labels], weights)

    def before(self, token: int) -> Encoded:
        """The row with one trained token appended; its weight is that of the token before it."""
        weights = None if self.weights is None else [*self.weights, *(self.weights[-1:] or [1.0])]
        return Encoded([*self.ids, token], [*self.labels, token], weights)


def encoded(ids: list[int], owners: Sequence[int], weights: Sequence[float]) -> Encoded:
    """The row whose token ``i`` belongs to span ``owners[i]``, or to no span for -1.

    ``weights`` has one value per span; it is empty when all are 1.
    """
    labels = [t if o >= 0 else IGNORED for t, o in zip(ids, owners, strict=True)]
    if not weights:
        return Encoded(ids, labels)
    return Encoded(ids, labels, [float(weights[o]) if o >= 0 else 0.0 for o in owners])


def span_of_tokens(offsets: Any, spans: Sequence[Span]) -> list[int] | None:
    """The span of each token, -1 for none; ``None`` when a token crosses a boundary.

    ``offsets`` are (start, end) characters per token. Characters without a token (whitespace that a
    tokenizer trims from its offsets) belong to the next token.
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
    """Ids and their spans, with the text split at the spans' boundaries and each piece tokenized
    separately.

    This matches inference: the prompt is complete before the answer begins, so no token can cross
    the boundary.
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
