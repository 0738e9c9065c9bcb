"""One row of data as the model receives it: its tokens and which of them are trained.

Plain data, so that terminal and window can show rows from the process with the tokenizer
(``studio.training.data_host.token_view``). No tokenizing and no torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["trained", "context", "cut", "padding"]
IGNORED = -100


@dataclass(frozen=True)
class Token:
    """A token. ``label`` is its id, or -100 if it is not trained.

    ``start`` and ``end`` are its characters in the row's text (``None`` when the tokenizer has no
    offsets). A token that is only part of a character has the replacement character as its ``text``
    and the offsets of the complete character. The first token of a row is never trained, whatever
    its label, because it has no context. ``weight`` is the factor of its loss, if it is trained.
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
    """The role of the tokens from ``first`` up to ``after``, exclusive."""

    role: str
    first: int
    after: int


@dataclass(frozen=True)
class TokenRow:
    """One training row. ``number`` counts the rows of the data in their order, from 1.

    ``part`` of ``parts``: some chat templates turn a conversation into one row per answer; with
    ``divided`` they are the pieces of a long text of ``whole_tokens``, of which ``whole_trained``
    are trained; not all pieces need be shown. ``text`` is the text made by the template. ``roles``
    is empty if the roles cannot be determined. ``flags`` are the codes of ``studio.preview.report``
    for its findings. A row that cannot be read or shown has no tokens; ``error`` and ``hint`` say
    why. Tokens far beyond the truncation are only counted, in ``more_cut``; ``text`` ends with the
    last token in the list.
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
        """The number of tokens that the template put before the first message, if known."""
        return self.roles[0].first if self.roles else 0

    @property
    def kept(self) -> tuple[Token, ...]:
        """The tokens that the model receives, without padding."""
        return tuple(t for t in self.tokens if t.state in ("trained", "context"))

    @property
    def weighted(self) -> bool:
        """Whether a trained token has a weight other than 1."""
        return any(t.weight != 1.0 for t in self.tokens if t.state == "trained")

    def count(self, state: State) -> int:
        """The number of tokens in this state."""
        more = self.more_cut if state == "cut" else 0
        return more + sum(t.state == state for t in self.tokens)

    @property
    def left_out(self) -> bool:
        """Whether training excludes the row, because no token of it would be trained."""
        return not self.count("trained")

    def to_json(self) -> dict[str, Any]:
        """The row as JSON data, its tokens in columns; ``row_from_json`` is the inverse."""
        plain = {n: getattr(self, n) for n in _PLAIN}
        columns = {n: [getattr(t, n) for t in self.tokens] for n in _COLUMNS}
        roles = [asdict(r) for r in self.roles]
        return {**plain, "flags": list(self.flags), "roles": roles, "tokens": columns}


@dataclass(frozen=True)
class RowFlags:
    """The properties of a training row that findings are based on.

    ``trained`` and ``kept`` count tokens after truncation, ``total`` before. ``plain``: text
    without question or answer. ``continues``: a piece of such a text, which begins with the last
    token of the previous piece. ``answer_cut``: a trained answer extends beyond the maximum length,
    so its end is never learned. ``missing_end``: even without truncation the last answer has no end
    token. ``empty_answer`` and ``one_token_answer`` refer to the content of the trained messages,
    without the chat template's text. ``left_out`` are the codes of what the chat template does to the
    row.
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
    left_out: tuple[str, ...] = ()

    @property
    def zero_trained(self) -> bool:
        """Whether training excludes the row, because no token of it would be trained."""
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
    """The row from JSON data."""
    columns = zip(*(data["tokens"][n] for n in _COLUMNS), strict=True)
    return TokenRow(
        **{n: data[n] for n in _PLAIN},
        tokens=tuple(Token(*values) for values in columns),
        roles=tuple(RoleSpan(**r) for r in data["roles"]),
        flags=tuple(data["flags"]),
    )
