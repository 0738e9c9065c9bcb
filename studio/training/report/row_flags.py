"""What is remarkable about one encoded row, for the data report and for whoever jumps to such rows.

It judges what a training gets (``Encoder.encode``); it must not encode anything by itself, except to
count the tokens of a short answer.
"""

from __future__ import annotations

from dataclasses import replace

from studio.preview.tokens import IGNORED, RowFlags
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.labels import Encoded
from studio.training.tokens.masks import Rendered

_SHORT = 64
"""No single token is an answer of more characters than this."""


def flags_of(encoder: Encoder, rendered: Rendered, encoded: Encoded) -> tuple[RowFlags, ...]:
    """The flags of a row, or of each piece of a long text; ``encoded`` is what the encoder made of
    ``rendered``, uncut."""
    whole = _flags(encoder, rendered, encoded)
    pieces = encoder.rows_of(rendered, encoded)
    if len(pieces) == 1:
        return (whole,)
    return tuple(_of_piece(whole, p, i, len(pieces)) for i, p in enumerate(pieces))


def _of_piece(whole: RowFlags, piece: Encoded, index: int, pieces: int) -> RowFlags:
    size = len(piece.ids)
    return replace(
        whole,
        trained=sum(v != IGNORED for v in piece.labels[1:]),
        kept=size,
        total=size,
        cut=False,
        missing_end=whole.missing_end and index == pieces - 1,
        double_bos=whole.double_bos and not index,
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
    )


def _missing_end(encoder: Encoder, encoded: Encoded) -> bool:
    """Whether the last run of trained tokens does not end with a token that ends an answer."""
    trained = [v for v in encoded.labels if v != IGNORED]
    return bool(trained) and not encoder.ends.is_ended(trained)


def _is_one_token(encoder: Encoder, said: str) -> bool:
    if len(said) > _SHORT:
        return False
    batch = encoder.tokenizer(said, add_special_tokens=False, verbose=False)
    return len(batch["input_ids"]) == 1
