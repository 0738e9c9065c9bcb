"""Divides long plain text into several rows of at most the maximum length.

Continued pretraining should use every token, including those beyond the maximum length. The first
token of a row is never predicted, so each piece but the first begins with the last token of the
previous piece as context: every token is trained exactly once. BOS and end token occur only where
the text itself begins and ends. Works on token ids only.
"""

from __future__ import annotations

from studio.preview.tokens import IGNORED
from studio.training.tokens.labels import Encoded


def piece_starts(tokens: int, length: int) -> range:
    """The start of each piece of a row with this many tokens; one piece if it is not longer than ``length``."""
    return range(0, max(tokens - 1, 1), max(length - 1, 1))


def pieces_of(row: Encoded, length: int) -> list[Encoded]:
    """The row as pieces of ``length`` tokens; the last one may be shorter."""
    return [_piece(row, start, length) for start in piece_starts(len(row.ids), length)]


def _piece(row: Encoded, start: int, length: int) -> Encoded:
    end, known = start + length, int(start > 0)  # the piece before has trained its last token
    weights = None
    if row.weights is not None:
        weights = [0.0] * known + row.weights[start + known : end]
    labels = [IGNORED] * known + row.labels[start + known : end]
    return Encoded(row.ids[start:end], labels, weights)
