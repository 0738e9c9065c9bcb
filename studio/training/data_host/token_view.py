"""Rows of data as the model receives them, token by token.

What is trained must be visible before a run. Ids and labels come from the functions used in
training (``tokens.encoder``). This module determines which characters each token stands for, and
verifies this by reproducing the same ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from studio.errors import errors_of
from studio.preview.tokens import IGNORED, RoleSpan, State, Token, TokenRow
from studio.training.data.source_order import SourceRow
from studio.training.tokens.chat import TemplateRefused
from studio.training.tokens.encoder import Encoded, Encoder, rendered
from studio.training.tokens.masks import Rendered, Span, conversation_of
from studio.training.tokens.pieces import piece_starts
from studio.training.tokens.spans import Conversation, turn_start

_Place = tuple[int, int] | None
MOST_CUT = 1000
"""The number of tokens shown beyond the truncation; more would take long to send and draw."""


def view_rows(
    title: str,
    encoder: Encoder,
    rows: Iterable[SourceRow],
    pieces: Collection[int] | None = None,
) -> list[TokenRow]:
    """Each row as in training, in order; some templates, and long texts, turn one row into several.

    ``title`` is the title of the Train node, for errors. Of many pieces the first and the last are
    shown; ``pieces`` selects others. Raises ``StudioError`` with file and line for a row that a
    training would refuse.
    """
    with errors_of(title):
        texts = [(s, rendered(encoder, dict(s.row))) for s in rows]
    encoded = iter(encoder.encode([t for _, parts in texts for t in parts]))
    return [
        view
        for source, parts in texts
        for index in range(len(parts))
        for view in _views(encoder, source, parts, index, next(encoded), pieces)
    ]


def _views(
    encoder: Encoder,
    source: SourceRow,
    parts: Sequence[Rendered],
    index: int,
    row: Encoded,
    chosen: Collection[int] | None,
) -> list[TokenRow]:
    """A text as the rows that a training makes of it."""
    item = parts[index]
    places = _places(encoder.tokenizer, item, row.ids)
    pieces = encoder.rows_of(item, row)
    if len(pieces) == 1:
        return [_view(encoder, source, item, row, places, (index + 1, len(parts)))]
    places, starts = _joined(places), piece_starts(len(row.ids), encoder.max_length)
    few = [n for n, start in enumerate(starts) if start < encoder.max_length + MOST_CUT]
    shown = sorted({*few, len(starts) - 1}) if chosen is None else [n - 1 for n in sorted(chosen)]
    trained = sum(v != IGNORED for v in row.labels[1:])
    return [
        replace(
            _piece(
                encoder,
                source,
                item,
                pieces[n],
                places[starts[n] :][: len(pieces[n].ids)],
                (n + 1, len(starts)),
            ),
            divided=True,
            whole_tokens=len(row.ids),
            whole_trained=trained,
        )
        for n in shown
    ]


def _piece(
    encoder: Encoder,
    source: SourceRow,
    item: Rendered,
    row: Encoded,
    places: Sequence[_Place],
    part: tuple[int, int],
) -> TokenRow:
    """A piece with its part of the text."""
    first, last = places[0], places[-1]
    if first is None or last is None:
        view = _view(encoder, source, item, row, places, part)
        return replace(view, text="".join(t.text for t in view.tokens))
    text = item.text[first[0] : last[1]]
    own = [(p[0] - first[0], p[1] - first[0]) for p in places if p is not None]
    return _view(encoder, source, replace(item, text=text), row, own, part)


def _view(
    encoder: Encoder,
    source: SourceRow,
    item: Rendered,
    row: Encoded,
    places: Sequence[_Place],
    part: tuple[int, int],
) -> TokenRow:
    shown = row.cut(encoder.max_length + MOST_CUT)
    tokens = _tokens(encoder, item.text, shown, places[: len(shown.ids)])
    more = len(row.ids) - len(tokens)
    return TokenRow(
        number=source.number,
        source=str(source.row["source"]),
        line=int(source.row["line"]),
        split=source.split,
        text=item.text[: tokens[-1].end if more else None],
        tokens=tokens,
        roles=_roles(encoder.tokenizer, source.row, item.text, tokens),
        part=part[0],
        parts=part[1],
        more_cut=more,
    )


# ------------------------------------------------------------------ characters of tokens


def _places(tokenizer: Any, item: Rendered, ids: list[int]) -> Sequence[_Place]:
    """The characters of every token; ``None`` for all if the tokenizer has no offsets.

    The encoder tokenized the text at once or split at the boundaries of its spans; the offsets come
    from the way that reproduces its ids.
    """
    borders = sorted({0, len(item.text), *itertools.chain.from_iterable(item.spans)})
    for cuts in ([0, len(item.text)], borders) if tokenizer.is_fast else ():
        again, places = _tokenized(tokenizer, item.text, cuts)
        for before in (0, 1):
            after = len(ids) - before - len(again)
            if 0 <= after <= 1 and ids[before : before + len(again)] == again:
                end = len(item.text)
                return [*[(0, 0)] * before, *places, *[(end, end)] * after]
    return [None] * len(ids)


def _tokenized(tokenizer: Any, text: str, cuts: Sequence[int]) -> tuple[list[int], list[Span]]:
    ids: list[int] = []
    places: list[Span] = []
    for start, end in itertools.pairwise(cuts):
        batch = tokenizer(
            text[start:end], add_special_tokens=False, verbose=False, return_offsets_mapping=True
        )
        ids += batch["input_ids"]
        places += [(start + a, start + b) for a, b in batch["offset_mapping"]]
    return ids, places


def _tokens(
    encoder: Encoder, text: str, row: Encoded, places: Sequence[_Place]
) -> tuple[Token, ...]:
    ids, labels = row.ids, row.labels
    special = _special_ids(encoder.tokenizer)
    joined = _joined(places)
    alone = [_shares(*pair) for pair in itertools.pairwise([*joined, None])]
    return tuple(
        Token(
            id=ids[i],
            text=_text(encoder.tokenizer, text, ids[i], place, ids[i] in special or alone[i]),
            state=_state(i, labels[i], encoder.max_length),
            label=labels[i],
            start=place[0] if place else None,
            end=place[1] if place else None,
            special=ids[i] in special,
            weight=1.0 if row.weights is None else row.weights[i],
        )
        for i, place in enumerate(joined)
    )


def _shares(place: _Place, following: _Place) -> bool:
    """Whether the next token shares characters with this one (a space that a tokenizer inserts, or
    a part of a character); they are assigned to the later token.
    """
    return place is not None and following is not None and following[0] < place[1]


def _state(index: int, label: int, max_length: int) -> State:
    if index >= max_length:
        return "cut"
    return "trained" if label != IGNORED and index else "context"


def _joined(places: Sequence[_Place]) -> list[_Place]:
    """Assign whitespace without a token to the next token, as in ``labels.span_of_tokens``."""
    reached = 0
    joined: list[_Place] = []
    for place in places:
        if place is None:
            joined.append(place)
            continue
        start, end = min(place[0], reached), place[1]
        joined.append((start, max(start, end)))
        reached = max(reached, end)
    return joined


def _text(tokenizer: Any, text: str, token: int, place: _Place, by_itself: bool) -> str:
    """The text of the token: from the source if it consists of complete characters, otherwise decoded."""
    alone = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    if by_itself or place is None or place[0] == place[1] or "�" in alone:
        return alone
    return text[place[0] : place[1]]


def _special_ids(tokenizer: Any) -> set[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *(i for i, t in added.items() if t.special)}


# ------------------------------------------------------------------ roles


def _roles(
    tokenizer: Any, row: Mapping[str, Any], text: str, tokens: Sequence[Token]
) -> tuple[RoleSpan, ...]:
    """The role that each token belongs to, if it can be proven."""
    if any(t.start is None for t in tokens):
        return ()
    if row.get("messages"):
        spans = _message_spans(conversation_of(tokenizer, row), text)
    elif row.get("text") is None:
        asked = len(row["prompt"])
        spans = [("prompt", 0, asked), ("completion", asked, len(text))]
    else:
        spans = [("text", 0, len(text))]
    starts = [t.start or 0 for t in tokens]
    return tuple(
        RoleSpan(
            role, _first(starts, start), _first(starts, end) if end < len(text) else len(starts)
        )
        for role, start, end in spans
    )


def _first(starts: Sequence[int], place: int) -> int:
    """The first token that starts at or after ``place``."""
    return next((i for i, start in enumerate(starts) if start >= place), len(starts))


def _message_spans(talk: Conversation, text: str) -> list[tuple[str, int, int]]:
    """Role and characters of each message: the text that rendering one more message adds, without
    what the template puts before the first one.

    Empty when the template does not render messages one after the other.
    """
    spans: list[tuple[str, int, int]] = []
    reached = turn_start(talk)
    for count, message in enumerate(talk.messages, start=1):
        try:
            upto = talk.text(count)
        except TemplateRefused:
            return []
        if not text.startswith(upto) or len(upto) < reached:
            return []
        spans.append((str(message["role"]), reached, len(upto)))
        reached = len(upto)
        if upto == text:
            return spans
    return []
