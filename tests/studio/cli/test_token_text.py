"""Rows of tokens on the screen: brackets, colours, and nothing that a terminal would obey."""

from __future__ import annotations

import re
from dataclasses import replace

from studio.cli.token_text import Paint, legend, paint_for, row_text
from studio.preview.tokens import IGNORED, RoleSpan, State, Token, TokenRow

BRACKETS = Paint(colours=False)
COLOURS = Paint(colours=True)


def row(*pieces: tuple[str, State]) -> TokenRow:
    """A row of tokens; those that look like ``<|x|>`` are special."""
    tokens, reached = [], 0
    for number, (text, state) in enumerate(pieces):
        label = number if state == "trained" else IGNORED
        end = reached + len(text)
        tokens.append(Token(number, text, state, label, reached, end, text.startswith("<|")))
        reached = end
    text = "".join(t.text for t in tokens)
    return TokenRow(7, "/data/talk.jsonl", 9, "validation", text, tuple(tokens))


PLAIN = row(
    ("<|q|>", "context"),
    ("hi\n", "context"),
    ("yes", "trained"),
    ("<|e|>", "trained"),
    ("\n", "cut"),
    ("no", "cut"),
)


def test_brackets() -> None:
    shown = row_text(replace(PLAIN, roles=(RoleSpan("user", 0, 2),)), 96, BRACKETS)
    assert shown.splitlines() == [
        "Row 7 of 96 · talk.jsonl, line 9 · validation · 6 tokens: 2 trained, 2 truncated",
        "  user 1-2",
        "<|q|>hi↵",
        "⟦yes<|e|>⟧⟪↵",
        "no⟫",
    ]
    assert legend(BRACKETS, 64) == "⟦trained⟧  context  ⟪truncated beyond 64 tokens⟫"


def test_colours_say_the_same() -> None:
    shown = row_text(PLAIN, 96, COLOURS)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain == re.sub("[⟦⟧⟪⟫]", "", row_text(PLAIN, 96, BRACKETS))
    assert "\x1b[30;42myes\x1b[0m" in shown
    assert "\x1b[30;102m\x1b[4m<|e|>\x1b[0m" in shown
    assert "\x1b[9;31m↵\x1b[0m\n" in shown
    assert "special token" in legend(COLOURS, 64)


def test_letters_that_the_terminal_lacks() -> None:
    paint = paint_for(False, "ascii")
    shown = row_text(PLAIN, 96, paint) + legend(paint, 64)
    assert shown.isascii()
    assert "[[yes<|e|>]]<<\\n\nno>>" in shown
    assert paint_for(True, "utf-8") == COLOURS


def test_what_a_terminal_would_obey_is_written_out() -> None:
    sly = row(("\x1b[2J", "trained"), ("a\tb\r\u202e", "context"), ("👩\u200d🚀", "context"))
    for paint in (BRACKETS, COLOURS):
        body = re.sub(r"\x1b\[[0-9;]*m", "", row_text(sly, 1, paint)).splitlines()[-1]
        assert re.sub("[⟦⟧]", "", body) == "\\x1b[2Ja→b\\r\\u202e👩\u200d🚀"


def test_a_character_of_several_tokens_is_shown_once() -> None:
    parts = tuple(Token(n, "�", "trained", n, 0, 1, False) for n in (1, 2, 3))
    shown = row_text(replace(PLAIN, text="雪", tokens=parts), 1, BRACKETS)
    assert shown.endswith("\n⟦雪⟧")
    unknown = tuple(replace(t, start=None, end=None) for t in parts)
    assert row_text(replace(PLAIN, text="雪", tokens=unknown), 1, BRACKETS).endswith("⟦���⟧")


def test_what_is_left_out_and_what_was_split_is_said() -> None:
    lost = replace(row(("a", "context")), part=2, parts=3)
    head = row_text(lost, 1, BRACKETS).splitlines()[0]
    assert head.endswith("part 2 of 3: one row per answer · excluded, no tokens are trained")
