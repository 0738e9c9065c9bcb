"""Tokens and rows as text: chips, token details, names of states and flags.

Plain functions, so that painting and screen readers use the same words.
"""

from __future__ import annotations

from pathlib import Path

from studio.preview.report import KINDS
from studio.preview.tokens import State, Token, TokenRow
from studio.system.number_text import percent, time_left

STATES: tuple[State, ...] = ("trained", "context", "cut", "padding")
STATE_WORDS: dict[State, str] = {
    "trained": "Trained",
    "context": "Context",
    "cut": "Truncated",
    "padding": "Padding",
}
STATE_HELP: dict[State, str] = {
    "trained": "The model learns to predict these tokens (underlined).",
    "context": "The model sees these tokens but is not trained to predict them.",
    "cut": "Beyond the max length: the model never sees these tokens (hatched).",
    "padding": "Fills a batch up to its longest row (dotted).",
}
SPLIT_WORDS = {"train": "training", "validation": "validation", "left_out": "excluded"}
TEMPLATE = "added by the chat template"
_SIGNS = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍", "\u00a0": "⍽"}
_LONGEST_SHOWN = 60


def visible(text: str) -> str:
    """The text with symbols for invisible characters."""
    shown = "".join(_SIGNS.get(c, c if c.isprintable() else f"\\x{ord(c):02x}") for c in text)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"


def chip_text(token: Token) -> str:
    """The text of a token's chip."""
    return visible(token.text) or "∅"


def role_at(row: TokenRow, index: int) -> str:
    """The role of a token; empty if unknown."""
    if index < row.inserted:
        return TEMPLATE
    return next((r.role for r in row.roles if r.first <= index < r.after), "")


def speakers(row: TokenRow) -> dict[int, str]:
    """The tokens at which a role begins, with that role."""
    own = {0: TEMPLATE} if row.inserted else {}
    return own | {r.first: r.role for r in row.roles}


def token_words(row: TokenRow, index: int) -> str:
    """The details of a token on one line."""
    token = row.tokens[index]
    parts = [f"Position {index}", f"id {token.id}", f"“{visible(token.text)}”"]
    state = STATE_WORDS[token.state].lower()
    parts.append(f"{state}, weight {token.weight:g}" if token.state == "trained" else state)
    if token.special:
        parts.append("special token")
    role = role_at(row, index)
    return " · ".join([*parts, *([role] if role else [])])


def length(row: TokenRow) -> int:
    """The length of a row in tokens, without truncation and padding."""
    return row.count("trained") + row.count("context") + row.count("cut")


def headline(row: TokenRow) -> str:
    """Number, file, line and split of a row."""
    part = f", {part_words(row).lower()}" if row.parts > 1 else ""
    place = f"{Path(row.source).name} line {row.line}" if row.line else Path(row.source).name
    return f"Row {row.number}{part} · {place} · {SPLIT_WORDS.get(row.split, row.split)}"


def part_words(row: TokenRow) -> str:
    """Which of the training rows made of one row this is: ``Part 2 of 3``."""
    return f"{'Piece' if row.divided else 'Part'} {row.part} of {row.parts}"


def count_words(row: TokenRow) -> str:
    """The number of trained tokens of a row."""
    if row.error:
        return row.error
    total, trained = length(row), row.count("trained")
    share = f" ({percent(trained / total)})" if total else ""
    weighted = " · weighted" if row.weighted else ""
    return f"{trained:,} of {total:,} tokens trained{share}{weighted}"


def flag_words(row: TokenRow) -> str:
    """The findings of a row."""
    return " · ".join(KINDS.get(flag, flag) for flag in row.flags)


def left_words(seconds: float | None) -> str:
    """``8 s left``, or nothing when it is unknown."""
    return "" if seconds is None else time_left(seconds)
