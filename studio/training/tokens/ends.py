"""BOS and end token of a row; each is added at most once.

The rules:

- A chat template places BOS itself; nothing is added before its text. Raw text gets BOS where the
  tokenizer would add it (``bos="auto"``), always or never.
- A row that ends with an answer must end with a token that stops generation: one of the tokenizer's
  added tokens, optionally followed by whitespace. If the template writes none, the end token is added
  and trained (``end_token="auto"``). ``always`` adds it unless it is already the last token; ``never``
  adds nothing. The same values apply to raw text, which gets the end token itself.

Works on token ids only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
        return row if self.end_token == "never" else self._ended(row)

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
        last = next((i for i in reversed(ids) if not self._is_blank(i)), None)
        return last is not None and last in self._enders

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


def turn_end_id(tokenizer: Any) -> int | None:
    """The first special token that the chat template writes after an answer, if any."""
    added = tokenizer.added_tokens_decoder
    closing = closing_ids(tokenizer) or []
    return next((i for i in closing if i in added and added[i].special), None)
