"""Long plain text as several rows of at most the max length, so that none of it is lost.

Why: continued pretraining wants every token, also those behind the max length. The first token of a
row is never predicted, so each piece but the first begins with the last token of the one before it,
as context: every token is trained exactly once. BOS and end token stand where the text itself begins
and ends, and nowhere else. It must not know about tokenizers or about what a row means.
"""

from __future__ import annotations

from studio.preview.tokens import IGNORED
from studio.training.tokens.labels import Encoded


def piece_starts(tokens: int, length: int) -> range:
    """Where the pieces of a row of so many tokens begin; one where it is not longer than ``length``."""
    return range(0, max(tokens - 1, 1), max(length - 1, 1))


def pieces_of(row: Encoded, length: int) -> list[Encoded]:
    """The row as pieces of ``length`` tokens, of which the last may be shorter."""
    return [_piece(row, start, length) for start in piece_starts(len(row.ids), length)]


def _piece(row: Encoded, start: int, length: int) -> Encoded:
    end, known = start + length, int(start > 0)  # the piece before has trained its last token
    weights = None
    if row.weights is not None:
        weights = [0.0] * known + row.weights[start + known : end]
    labels = [IGNORED] * known + row.labels[start + known : end]
    return Encoded(row.ids[start:end], labels, weights)
