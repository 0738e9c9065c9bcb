"""Rows of tokens as text for a terminal, in colours or with brackets.

Control characters in the data are escaped, so that the terminal never interprets them.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.preview.report import KINDS
from studio.preview.tokens import Token, TokenRow

_RESET = "\x1b[0m"
_COLOURS = {"trained": ("\x1b[30;42m", "\x1b[30;102m"), "cut": ("\x1b[9;31m",) * 2}
_PLAIN_COLOURS = ("", "\x1b[2m")
_SPECIAL = "\x1b[4m"
_BRACKETS = {"trained": ("⟦", "⟧"), "cut": ("⟪", "⟫"), "context": ("", "")}
_ASCII = {"trained": ("[[", "]]"), "cut": ("<<", ">>"), "context": ("", "")}
_JOINERS = ("\u200c", "\u200d")


@dataclass(frozen=True)
class Paint:
    """How to show a state: in colours, or in brackets that the terminal's encoding supports."""

    colours: bool
    letters: bool = True

    @property
    def brackets(self) -> dict[str, tuple[str, str]]:
        """Opening and closing bracket by state."""
        return _BRACKETS if self.letters else _ASCII


def paint_for(colours: bool, encoding: str | None) -> Paint:
    """The paint for an output with this encoding."""
    try:
        "⟦⟧⟪⟫↵→·".encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return Paint(colours, letters=False)
    return Paint(colours)


def legend(paint: Paint, max_length: int) -> str:
    """The legend of the colours or brackets."""
    words = {
        "trained": "trained",
        "context": "context",
        "cut": (f"truncated beyond {max_length} tokens"),
    }
    if not paint.colours:
        return "  ".join(w.join(paint.brackets[state]) for state, w in words.items())
    shown = [_coloured(w, state, 0) for state, w in words.items()]
    return "  ".join([*shown, f"{_SPECIAL}special token{_RESET}"])


def row_text(row: TokenRow, count: int, paint: Paint) -> str:
    """A row of ``count``: its source, its roles and its tokens."""
    heads = [_header(row, count), _roles(row)]
    dot = "·" if paint.letters else "-"
    head = "\n".join(h for h in heads if h).replace("·", dot)
    body = _in_colours(row, paint.letters) if paint.colours else _in_brackets(row, paint)
    more = f"\n({row.more_cut} more tokens are truncated.)" if row.more_cut else ""
    return f"{head}\n{body}{more}"


def _header(row: TokenRow, count: int) -> str:
    place = f"{Path(row.source).name}, line {row.line}"
    counts = (
        f"{len(row.tokens) + row.more_cut} tokens: {row.count('trained')} trained, "
        f"{row.count('cut')} truncated"
    )
    parts = [f"Row {row.number} of {count}", place, row.split, counts]
    if row.parts > 1:
        parts.append(
            f"piece {row.part} of {row.parts} of a long text"
            if row.divided
            else f"part {row.part} of {row.parts}: one row per answer"
        )
    if row.left_out:
        parts.append("excluded, no tokens are trained")
    if row.flags:
        parts.append("; ".join(KINDS.get(f, f).lower() for f in row.flags))
    return " · ".join(visible(p) for p in parts)


def _roles(row: TokenRow) -> str:
    """The role of each range of tokens, counted from 1."""
    own = [f"added by the chat template 1-{row.inserted}"] if row.inserted else []
    spans = [f"{visible(r.role)} {r.first + 1}-{r.after}" for r in row.roles if r.after > r.first]
    return "  " + " · ".join([*own, *spans]) if spans else ""


def _pieces(row: TokenRow) -> Iterator[tuple[Token, str]]:
    """Each token with its text; if several tokens form one character, the first one shows it."""
    shown = 0
    for token in row.tokens:
        piece = token.text
        if token.start is not None and token.end is not None:
            if not token.special and token.end > token.start:
                piece = row.text[max(token.start, shown) : token.end]
            shown = max(shown, token.end)
        yield token, piece


def _in_colours(row: TokenRow, letters: bool) -> str:
    shown = "".join(
        _coloured(visible(piece, letters=letters), token.state, index, special=token.special)
        for index, (token, piece) in enumerate(_pieces(row))
        if piece
    )
    return shown.removesuffix("\n")


def _coloured(text: str, state: str, index: int, *, special: bool = False) -> str:
    """Alternate two shades, so that single tokens can be distinguished."""
    code = _COLOURS.get(state, _PLAIN_COLOURS)[index % 2] + (_SPECIAL if special else "")
    lines = text.split("\n")
    return "\n".join(f"{code}{line}{_RESET}" if code and line else line for line in lines)


def _in_brackets(row: TokenRow, paint: Paint) -> str:
    """Runs of one state in its brackets; a line end at the end of a run stays before its bracket."""
    shown = ""
    for state, run in itertools.groupby(_pieces(row), key=lambda pair: pair[0].state):
        opening, closing = paint.brackets[state]
        text = visible("".join(piece for _, piece in run), letters=paint.letters)
        inner = text.removesuffix("\n")
        shown += opening + inner + closing + text[len(inner) :]
    return shown.removesuffix("\n")


def visible(text: str, *, letters: bool = True) -> str:
    """The text with visible line ends and escaped control characters."""
    return "".join(_shown(c, letters) for c in text)


def _shown(character: str, letters: bool) -> str:
    if character == "\n":
        return "↵\n" if letters else "\\n\n"
    if character == "\t":
        return "→" if letters else "\\t"
    if (
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and character not in _JOINERS
    ):
        return character.encode("unicode_escape").decode("ascii")
    return character
