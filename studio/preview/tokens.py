"""One row of data as the model will see it: what every token is and whether it is trained.

Plain descriptions, so that the terminal and the window can show rows that a process with the
tokenizer made (``studio.training.data_host.token_view``). Nothing here may tokenize or import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["trained", "context", "cut", "padding"]
IGNORED = -100


@dataclass(frozen=True)
class Token:
    """A token and its fate. ``label`` is its id, or -100 where nothing is trained.

    ``start`` and ``end`` are the characters of the row's text it stands for (``None`` when the
    tokenizer does not tell). A token that is only part of a character has the replacement
    character as its ``text``; its characters are those of the whole one. The first token of a row
    is never trained, whatever its label: nothing stands before it to predict it from. ``weight`` is
    the factor of its loss; it says nothing of a token that is not trained.
    """

    id: int
    text: str
    state: State
    label: int
    start: int | None
    end: int | None
    special: bool
    weight: float = 1.0


@dataclass(frozen=True)
class RoleSpan:
    """Who says the tokens from ``first`` up to but without ``after``."""

    role: str
    first: int
    after: int


@dataclass(frozen=True)
class TokenRow:
    """One training row. ``number`` counts the rows of the data in their order, from 1.

    ``part`` of ``parts``: some chat templates turn a conversation into one row per answer; with
    ``divided`` they are the pieces of a long text of ``whole_tokens``, of which ``whole_trained`` are
    trained; not all pieces need be shown.
    ``text`` is what the template made of the row. ``roles`` is empty where it cannot be told.
    ``flags`` are the codes of ``studio.preview.report`` for what looks wrong with it. A row that cannot
    be read or shown has no tokens; ``error`` and ``hint`` say why. Of a giant row the tokens far
    behind the cut are only counted, in ``more_cut``; ``text`` ends with the last token that is there.
    """

    number: int
    source: str
    line: int
    split: str
    text: str
    tokens: tuple[Token, ...]
    roles: tuple[RoleSpan, ...] = ()
    part: int = 1
    parts: int = 1
    flags: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    more_cut: int = 0
    divided: bool = False
    whole_tokens: int = 0
    whole_trained: int = 0

    @property
    def inserted(self) -> int:
        """How many of the first tokens the template put before the first message, where it is known."""
        return self.roles[0].first if self.roles else 0

    @property
    def kept(self) -> tuple[Token, ...]:
        """The tokens that the model gets, without padding."""
        return tuple(t for t in self.tokens if t.state in ("trained", "context"))

    @property
    def weighted(self) -> bool:
        """Whether a trained token counts other than 1."""
        return any(t.weight != 1.0 for t in self.tokens if t.state == "trained")

    def count(self, state: State) -> int:
        """How many tokens are in this state."""
        more = self.more_cut if state == "cut" else 0
        return more + sum(t.state == state for t in self.tokens)

    @property
    def left_out(self) -> bool:
        """Whether training leaves the row out, because nothing in it would be trained."""
        return not self.count("trained")

    def to_json(self) -> dict[str, Any]:
        """The row as JSON data, its tokens in columns; ``row_from_json`` is the exact inverse."""
        whole = {n: getattr(self, n) for n in _PLAIN}
        columns = {n: [getattr(t, n) for t in self.tokens] for n in _COLUMNS}
        roles = [asdict(r) for r in self.roles]
        return {**whole, "flags": list(self.flags), "roles": roles, "tokens": columns}


@dataclass(frozen=True)
class RowFlags:
    """What is remarkable about a training row.

    ``trained`` and ``kept`` count tokens after cutting, ``total`` before. ``plain``: text without a
    question or an answer. ``continues``: a piece of such a text, which begins with the last token of
    the piece before it. ``answer_cut``: something of an answer that would be trained lies beyond the
    max length, so the answer's end is never learned.
    ``missing_end``: even uncut, nothing ends the last answer. ``empty_answer`` and
    ``one_token_answer`` judge what the trained messages say by themselves, without what the chat
    template writes around them.
    """

    trained: int
    kept: int
    total: int
    cut: bool
    answer_cut: bool
    missing_end: bool
    double_bos: bool
    empty_answer: bool
    one_token_answer: bool
    plain: bool = False
    continues: bool = False

    @property
    def zero_trained(self) -> bool:
        """Whether training leaves the row out, because nothing in it would be trained."""
        return not self.trained


_PLAIN = (
    "number",
    "source",
    "line",
    "split",
    "text",
    "part",
    "parts",
    "error",
    "hint",
    "more_cut",
    "divided",
    "whole_tokens",
    "whole_trained",
)
_COLUMNS = tuple(Token.__dataclass_fields__)


def row_from_json(data: Mapping[str, Any]) -> TokenRow:
    """The row in JSON data."""
    columns = zip(*(data["tokens"][n] for n in _COLUMNS), strict=True)
    return TokenRow(
        **{n: data[n] for n in _PLAIN},
        tokens=tuple(Token(*values) for values in columns),
        roles=tuple(RoleSpan(**r) for r in data["roles"]),
        flags=tuple(data["flags"]),
    )
