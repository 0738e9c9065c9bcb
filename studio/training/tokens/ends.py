"""BOS and end token of a row; each is added at most once.

The rules:

- A chat template places BOS itself; nothing is added before its text. Raw text gets BOS where the
  tokenizer would add it (``bos="auto"``), always or never.
- A row that ends with an answer must end with a token that stops generation: one of the tokenizer's
  added tokens, optionally followed by whitespace. If the template writes none, the end token is added
  and trained (``end_token="auto"``). ``always`` adds it unless it is already the last token; ``never``
  adds nothing. The same values apply to raw text, which gets the end token itself unless it ends
  with it, or with the token that ends a turn of the chat template, optionally followed by whitespace.
- An answer that itself ends with one of these two tokens loses it where the template ends answers
  itself (``messages_to_render``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from studio.data.canonical import messages_of
from studio.training.tokens.chat import TemplateRefused, starts_with_bos
from studio.training.tokens.labels import Encoded
from studio.training.tokens.spans import Conversation, content_span

_PROBE = ({"role": "user", "content": "QxA"}, {"role": "assistant", "content": "ZyB"})


def closing_ids(tokenizer: Any) -> list[int] | None:
    """The tokens that the chat template writes after an answer; ``None`` if they cannot be determined."""
    talk = Conversation(tokenizer, _PROBE)
    try:
        full_text = talk.text()
        place = content_span(talk, 1, full_text)
    except TemplateRefused:
        return None
    if place is None:
        return None
    after = tokenizer(full_text[place[1] :], add_special_tokens=False, verbose=False)
    return list(after["input_ids"])


@dataclass(frozen=True)
class Ends:
    """The rules for one tokenizer."""

    tokenizer: Any
    end_token: str = "auto"
    bos: str = "auto"

    def raw(self, row: Encoded, *, train_bos: bool) -> Encoded:
        """Raw text with its BOS and end token."""
        bos = self.tokenizer.bos_token_id
        if self.bos_first and row.ids[:1] != [bos]:
            row = row.after(bos, trained=train_bos)
        return row if self._ends_raw(row.ids) else self._ended(row)

    def _ends_raw(self, ids: list[int]) -> bool:
        """Whether raw text gets no end token: it has one, or none is wanted."""
        if self.end_token == "never":
            return True
        last = self._last(ids)
        if last is None or last == self.tokenizer.eos_token_id:
            return last is not None
        is_special = self.end_token == "auto" and last in self._enders
        return is_special and self._decoded(last) == answer_ends(self.tokenizer).turn

    def answered(self, row: Encoded) -> Encoded:
        """A conversation that ends with an answer, with its end token."""
        if self.end_token == "never" or (self.end_token == "auto" and self.is_ended(row.ids)):
            return row
        return self._ended(row)

    def _ended(self, row: Encoded) -> Encoded:
        eos = self.tokenizer.eos_token_id
        return row if eos is None or row.ids[-1:] == [eos] else row.before(eos)

    def is_ended(self, ids: list[int]) -> bool:
        """Whether the tokens end with one that stops generation, ignoring trailing whitespace."""
        last = self._last(ids)
        return last is not None and last in self._enders

    def _last(self, ids: list[int]) -> int | None:
        """The last token that is not whitespace."""
        return next((i for i in reversed(ids) if not self._is_blank(i)), None)

    @cached_property
    def template_ends(self) -> bool:
        """Whether the chat template ends answers itself; true if this cannot be determined."""
        closing = closing_ids(self.tokenizer)
        return closing is None or self.is_ended(closing)

    @cached_property
    def bos_first(self) -> bool:
        """Whether raw text gets a BOS token."""
        if self.tokenizer.bos_token_id is None or self.bos == "never":
            return False
        return self.bos == "always" or starts_with_bos(self.tokenizer)

    @cached_property
    def _enders(self) -> frozenset[int]:
        return frozenset({*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder})

    def _is_blank(self, token: int) -> bool:
        if token not in self._blanks:
            self._blanks[token] = token not in self._enders and not self._decoded(token).strip()
        return self._blanks[token]

    @cached_property
    def _blanks(self) -> dict[int, bool]:
        return {}

    def _decoded(self, token: int) -> str:
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))


@dataclass(frozen=True)
class AnswerEnds:
    """How answers end: ``end`` is the end token and ``turn`` the special token that the chat template
    writes after an answer, as text; either may be empty. ``closes``: the template writes any text there.
    """

    end: str
    turn: str
    closes: bool


@dataclass(frozen=True)
class _Texts:
    """The special tokens of a tokenizer as text, and how answers end, by chat template."""

    special: tuple[str, ...]
    ends: dict[tuple[str, str], AnswerEnds] = field(default_factory=dict)


_texts: WeakKeyDictionary[Any, _Texts] = WeakKeyDictionary()


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """The special tokens of a tokenizer, as text."""
    return _texts_of(tokenizer).special


def answer_ends(tokenizer: Any) -> AnswerEnds:
    """How answers end with this tokenizer and its chat template."""
    known = _texts_of(tokenizer).ends
    key = (str(tokenizer.chat_template), str(tokenizer.eos_token or ""))
    if key not in known:
        turn = turn_end_id(tokenizer)
        closing = tokenizer.decode(closing_ids(tokenizer) or [])
        text = "" if turn is None else str(tokenizer.added_tokens_decoder[turn].content)
        known[key] = AnswerEnds(key[1], text, bool(closing.strip()))
    return known[key]


def _texts_of(tokenizer: Any) -> _Texts:
    known = _texts.get(tokenizer)
    if known is None:
        added = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        named = [str(t) for t in tokenizer.all_special_tokens]
        texts = {t.strip() for t in (*added, *named)}
        known = _texts[tokenizer] = _Texts(tuple(sorted(t for t in texts if t)))
    return known


def written_end(tokenizer: Any, row: Mapping[str, Any]) -> str:
    """The end token that an answer, or the text, of a stored row itself ends with, or nothing."""
    raw = row.get("text") if row.get("text") is not None else row.get("completion")
    answers = [m["content"] for m in row.get("messages") or () if m["role"] == "assistant"]
    for said in answers if row.get("messages") else [raw]:
        end = end_of(tokenizer, str(said or ""))
        if end:
            return end
    return ""


def end_of(tokenizer: Any, said: str) -> str:
    """The end token with which a text ends, ignoring whitespace, or nothing."""
    said = said.rstrip()
    if not said.endswith(special_texts(tokenizer)):
        return ""  # the usual case, without asking the template
    ends = answer_ends(tokenizer)
    return next((e for e in (ends.end, ends.turn) if e and said.endswith(e)), "")


def messages_to_render(tokenizer: Any, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a stored row for the chat template.

    An end token at the end of an answer is removed if the template ends answers itself, so that the
    model does not learn to write two.
    """
    messages = messages_of(row)
    if written_end(tokenizer, row) and answer_ends(tokenizer).closes:
        for message in messages:
            said = str(message.get("content") or "")
            while message["role"] == "assistant" and (end := end_of(tokenizer, said)):
                said = said.rstrip().removesuffix(end)
                message["content"] = said
    return messages


def turn_end_id(tokenizer: Any) -> int | None:
    """The first special token that the chat template writes after an answer, if any."""
    added = tokenizer.added_tokens_decoder
    closing = closing_ids(tokenizer) or []
    return next((i for i in closing if i in added and added[i].special), None)
