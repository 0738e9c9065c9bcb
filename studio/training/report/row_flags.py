"""The flags of one encoded row, for the data report and for navigating to such rows.

They describe the row as a training receives it (``Encoder.encode``). Nothing is encoded here,
except to count the tokens of a short answer.
"""

from __future__ import annotations

from dataclasses import replace

from studio.preview.tokens import IGNORED, RowFlags
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.labels import Encoded
from studio.training.tokens.masks import Rendered

_SHORT = 64
"""An answer with more characters is more than one token."""


def flags_of(encoder: Encoder, rendered: Rendered, encoded: Encoded) -> tuple[RowFlags, ...]:
    """The flags of a row, or of each piece of a long text; ``encoded`` is the encoded ``rendered``
    before truncation.
    """
    row = _flags(encoder, rendered, encoded)
    pieces = encoder.rows_of(rendered, encoded)
    if len(pieces) == 1:
        return (row,)
    return tuple(_of_piece(row, p, i, len(pieces)) for i, p in enumerate(pieces))


def _of_piece(row: RowFlags, piece: Encoded, index: int, pieces: int) -> RowFlags:
    size = len(piece.ids)
    return replace(
        row,
        trained=sum(v != IGNORED for v in piece.labels[1:]),
        kept=size,
        total=size,
        cut=False,
        missing_end=row.missing_end and index == pieces - 1,
        double_bos=row.double_bos and not index,
        continues=index > 0,
    )


def _flags(encoder: Encoder, rendered: Rendered, encoded: Encoded) -> RowFlags:
    trained = [v != IGNORED for v in encoded.labels[1:]]  # the first token is never predicted
    kept = sum(trained[: encoder.max_length - 1])
    bos = encoder.tokenizer.bos_token_id
    said = [s.strip() for s in rendered.said]
    return RowFlags(
        trained=kept,
        kept=min(len(encoded.ids), encoder.max_length),
        total=len(encoded.ids),
        cut=len(encoded.ids) > encoder.max_length,
        answer_cut=sum(trained) > kept and not rendered.plain,
        missing_end=_missing_end(encoder, encoded),
        double_bos=bos is not None and encoded.ids[:2] == [bos, bos],
        empty_answer=any(not s for s in said),
        one_token_answer=any(_is_one_token(encoder, s) for s in said if s),
        plain=rendered.plain,
        left_out=rendered.left_out,
    )


def _missing_end(encoder: Encoder, encoded: Encoded) -> bool:
    """Whether the last run of trained tokens lacks an end token."""
    trained = [v for v in encoded.labels if v != IGNORED]
    return bool(trained) and not encoder.ends.is_ended(trained)


def _is_one_token(encoder: Encoder, said: str) -> bool:
    if len(said) > _SHORT:
        return False
    batch = encoder.tokenizer(said, add_special_tokens=False, verbose=False)
    return len(batch["input_ids"]) == 1
