"""A picture of the window's token view as SVG: the tokens of a row, which of them are trained, and the roles.

Colours, symbols and words are those of the widget (``ui.data.token_flow``). The text is the same on every machine: no
font is measured, every character has the same advance and wide characters have two. The picture follows the scheme of
the reader (light or dark).
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from studio.preview.tokens import State, Token, TokenRow
from ui.data.token_paint import (
    PAD_PX,
    RADIUS_PX,
    SIGNS,
    chip_edge,
    chip_fill,
    hatch_color,
    sign_color,
    text_color,
    underline_px,
)
from ui.data.token_words import STATE_WORDS, chip_text, count_words, part_words, speakers
from ui.style.theme_colors import DARK, LIGHT, Colors

WIDTH_PX = 760
ADVANCE_PX, FONT_PX = 7.2, 12
MARGIN_PX, GAP_PX = 12.0, 2.0
CHIP_PX, LINE_PX, LABEL_PX = 19.0, 23.0, 18.0
FIRST_LINES, LAST_LINES = 3, 5
"""The lines shown of a long message without trained tokens."""
FIRST_TRAINED, LAST_TRAINED = 10, 2
"""The lines shown of a long message with trained tokens."""
_FONTS = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_CLASSES: dict[State, str] = {"trained": "t", "context": "c", "cut": "x"}
"""Padding belongs to a batch; a row has none."""
_LONGEST_QUOTE = 100


@dataclass(frozen=True)
class _Line:
    """Tokens from ``first`` up to but without ``after``, or instead the ``note`` about those that are not shown;
    ``label`` is the role that begins here.
    """

    first: int
    after: int
    label: str = ""
    note: str = ""


def picture(rows: Sequence[TokenRow]) -> str:
    """The SVG of the training rows that one row of data becomes."""
    y, parts = MARGIN_PX, [_legend(rows)]
    y += LINE_PX + 3
    for row in rows:
        if len(rows) > 1:
            y += 5
            parts.append(_words(y, f"{part_words(row)} · {count_words(row)}", "h"))
            y += LABEL_PX
        for line in _shown(row):
            if line.label:
                parts.append(_words(y, line.label, "l"))
                y += LABEL_PX
            if line.note:
                parts.append(_words(y + 1.5, line.note, "l"))
            else:
                parts.append(_moved(y, _chips(row, line)))
            y += LINE_PX
    height = y + MARGIN_PX - (LINE_PX - CHIP_PX)
    return "\n".join([*_head(rows, height), *parts, "</svg>", ""])


def trained_words(rows: Sequence[TokenRow]) -> str:
    """What is trained, for readers who do not see the picture."""
    if len(rows) == 1:
        return _trained(rows[0])
    return " ".join(f"{part_words(row)}: {_trained(row)}" for row in rows)


def _trained(row: TokenRow) -> str:
    runs = [
        "".join(t.text for t in run)
        for trained, run in itertools.groupby(row.tokens, lambda t: t.state == "trained")
        if trained
    ]
    quotes = ", ".join(f"“{_short(' '.join(r.split()))}”" for r in runs)
    return f"{count_words(row)}: {quotes}." if quotes else f"{count_words(row)}."


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


# ------------------------------------------------------------------ lines


def _lines(row: TokenRow) -> Iterator[_Line]:
    """As in ``TokenFlow``: a line ends at the width, at a line break, and where the role changes."""
    starts, first, x = speakers(row), 0, MARGIN_PX
    for index, token in enumerate(row.tokens):
        wide = _chip_width(token)
        broken = index > 0 and chip_text(row.tokens[index - 1]).endswith("↵")
        if index > first and (index in starts or broken or x + wide > WIDTH_PX - MARGIN_PX):
            yield _Line(first, index, starts.get(first, ""))
            first, x = index, MARGIN_PX
        x += wide + GAP_PX
    if row.tokens:
        yield _Line(first, len(row.tokens), starts.get(first, ""))


def _shown(row: TokenRow) -> Iterator[_Line]:
    """The lines, with a note in place of the middle of a long part of a message."""
    block = 0
    numbered = []
    for line in _lines(row):
        block += bool(line.label)
        trained = any(t.state == "trained" for t in row.tokens[line.first : line.after])
        numbered.append(((block, trained), line))
    for (_, trained), group in itertools.groupby(numbered, lambda pair: pair[0]):
        lines = [line for _, line in group]
        head, tail = (FIRST_TRAINED, LAST_TRAINED) if trained else (FIRST_LINES, LAST_LINES)
        if len(lines) <= head + tail + 1:
            yield from lines
            continue
        first, after = lines[head].first, lines[-tail].first
        kind = "trained tokens" if trained else "tokens of context"
        yield from lines[:head]
        yield _Line(first, after, note=f"… {after - first:,} {kind} not shown …")
        yield from lines[-tail:]
    if row.more_cut:
        yield _Line(0, 0, note=f"… {row.more_cut:,} truncated tokens not shown")


# ------------------------------------------------------------------ drawing


def _moved(y: float, drawn: Iterable[str]) -> str:
    return f'<g transform="translate(0 {y:g})">{"".join(drawn)}</g>'


def _chips(row: TokenRow, line: _Line) -> Iterator[str]:
    """The chips of a line, then the lines below trained tokens."""
    x, strokes = MARGIN_PX, []
    for token in row.tokens[line.first : line.after]:
        wide = _chip_width(token)
        yield _chip(x, wide, chip_text(token), token.state, token.special)
        if token.state == "trained":
            strokes.append(_underline(x, wide, token.weight))
        x += wide + GAP_PX
    yield from strokes


def _chip(x: float, wide: float, text: str, state: State, special: bool) -> str:
    kind, half = _CLASSES[state], 0.5 if special else 0.0
    box = (
        f'x="{x + half:g}" y="{half:g}" width="{wide - 2 * half:g}" height="{CHIP_PX - 2 * half:g}"'
    )
    name = f"{kind} s" if special else kind
    drawn = f'<rect {box} rx="{RADIUS_PX:g}" class="{name}"/>'
    if state == "cut":
        drawn += f'<rect {box} rx="{RADIUS_PX:g}" fill="url(#hatch)"/>'
    signs = len(text) - len(text.lstrip(SIGNS))
    inside = escape(text[signs:], quote=False)
    if signs:
        inside = f'<tspan class="m">{text[:signs]}</tspan>{inside}'
    faded = ' class="l"' if state == "cut" else ""
    length = f' textLength="{_advance(text):g}"' if len(text) > 1 else ""
    return f'{drawn}<text x="{x + PAD_PX:g}" y="13.5"{length}{faded}>{inside}</text>'


def _underline(x: float, wide: float, weight: float) -> str:
    high = underline_px(weight)
    return f'<rect x="{x + 1:g}" y="{CHIP_PX - high:g}" width="{wide - 2:g}" height="{high:g}" class="u"/>'


def _chip_width(token: Token) -> float:
    return round(_advance(chip_text(token)) + 2 * PAD_PX, 1)


def _advance(text: str) -> float:
    """The width of a text: wide characters count twice, combining ones not at all."""
    cells = sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
    return round(cells * ADVANCE_PX, 1)


def _words(y: float, text: str, name: str) -> str:
    return (
        f'<text x="{MARGIN_PX:g}" y="{y + 12:g}" class="{name}">{escape(text, quote=False)}</text>'
    )


def _legend(rows: Sequence[TokenRow]) -> str:
    """A chip of each state with its name and the number of its tokens, as in ``ui.data.legend``."""
    counts = {s: sum(row.count(s) for row in rows) for s in _CLASSES}
    entries: list[tuple[State, str, int, bool]] = [
        (s, STATE_WORDS[s], counts[s], False)
        for s in _CLASSES
        if counts[s] or s in ("trained", "context")
    ]
    special = sum(t.special for row in rows for t in row.tokens)
    x, drawn = MARGIN_PX, []
    for state, name, count, outlined in [*entries, ("context", "Special", special, True)]:
        wide, words = _advance("ab") + 2 * PAD_PX, f"{name} {count:,}"
        drawn.append(_chip(x, wide, "ab", state, outlined))
        if state == "trained":
            drawn.append(_underline(x, wide, 1.0))
        x += wide + 6
        drawn.append(f'<text x="{x:g}" y="13.5" textLength="{_advance(words):g}">{words}</text>')
        x = round(x + _advance(words) + 16, 1)
    return _moved(MARGIN_PX, drawn)


# ------------------------------------------------------------------ the document around them


def _head(rows: Sequence[TokenRow], height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height:g}"'
        f' viewBox="0 0 {WIDTH_PX} {height:g}" role="img" aria-labelledby="title words">'
    )
    yield '<title id="title">Token view</title>'
    yield f'<desc id="words">{escape(trained_words(rows), quote=False)}</desc>'
    yield f"<style>text{{font-family:{_FONTS};font-size:{FONT_PX}px}}.h{{font-weight:bold}}"
    yield _rules(LIGHT)
    yield f"@media (prefers-color-scheme:dark){{{_rules(DARK)}}}</style>"
    if any(row.count("cut") for row in rows):
        yield (
            '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse">'
            '<path d="M0 6L6 0" class="k"/></pattern>'
        )
    yield f'<rect width="{WIDTH_PX}" height="{height:g}" rx="6" class="b"/>'


def _rules(look: Colors) -> str:
    """The style rules of a scheme."""
    hatch = hatch_color(look)
    rules = [
        f"text{{fill:{text_color('trained', look).name()}}}",
        f".l{{fill:{text_color('cut', look).name()}}}",
        f".m{{fill:{sign_color(look).name()}}}",
        f".b{{fill:{look.background.name()}}}",
        f".u{{fill:{look.success.name()}}}",
        f".k{{stroke:{hatch.name()};stroke-opacity:{hatch.alphaF():.2f}}}",
    ]
    for state, name in _CLASSES.items():
        fill = chip_fill(state, look)
        assert fill is not None
        rules.append(f".{name}{{fill:{fill.name()}}}")
        rules.append(f".{name}.s{{stroke:{chip_edge(state, look).name()}}}")
    return "".join(rules)
