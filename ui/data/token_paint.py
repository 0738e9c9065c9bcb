"""Painting of a token's chip: a colour and a second sign for each state, shared with the legend.

Trained tokens are tinted and underlined, context is plain, truncated tokens are hatched and faded,
padding is dotted; special tokens have an outline. ``docs/token_picture.py`` draws the same as SVG.
"""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen

from studio.preview.tokens import State
from ui.style import theme
from ui.style.theme_colors import Colors, blend

RADIUS_PX = 3.0
PAD_PX = 3.0
SIGNS = "·↵→"
"""The symbols of ``token_words.visible`` that are muted at the start of a token."""
_LINE_PX = 2.0
_MOST_LINE_PX = 5.0
_HATCH_ALPHA = 110


def paint_chip(
    painter: QPainter, place: QRectF, text: str, state: State, special: bool, weight: float = 1.0
) -> None:
    """A chip in ``place``; ``text`` is what ``token_words.chip_text`` made."""
    look = theme.colors()
    painter.setPen(Qt.PenStyle.NoPen)
    fill = chip_fill(state, look)
    if fill is not None:
        painter.setBrush(fill)
        painter.drawRoundedRect(place, RADIUS_PX, RADIUS_PX)
    if state == "cut":
        painter.setBrush(QBrush(hatch_color(look), Qt.BrushStyle.BDiagPattern))
        painter.drawRoundedRect(place, RADIUS_PX, RADIUS_PX)
    if special or state == "padding":
        style = Qt.PenStyle.DotLine if state == "padding" else Qt.PenStyle.SolidLine
        painter.setPen(QPen(chip_edge(state, look), 1.0, style))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(place.adjusted(0.5, 0.5, -0.5, -0.5), RADIUS_PX, RADIUS_PX)
    _paint_text(painter, place, text, state)
    if state == "trained":
        height = underline_px(weight)
        line = QRectF(place.left() + 1, place.bottom() - height, place.width() - 2, height)
        painter.fillRect(line, look.success)


def paint_frame(painter: QPainter, place: QRectF, pinned: bool) -> None:
    """The frame of the token under the mouse, or of the one that is pinned."""
    look = theme.colors()
    painter.setPen(QPen(look.accent if pinned else look.text, 2.0 if pinned else 1.0))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(place.adjusted(-1, -1, 1, 1), RADIUS_PX, RADIUS_PX)


def chip_fill(state: State, look: Colors) -> QColor | None:
    """The background of a chip; ``None`` for padding."""
    if state == "trained":
        return blend(look.background, look.success, 0.26)
    if state == "context":
        return blend(look.background, look.text_muted, 0.13)
    if state == "cut":
        return blend(look.background, look.danger, 0.10)
    return None


def chip_edge(state: State, look: Colors) -> QColor:
    """The outline of a special token's chip."""
    edges = {"trained": look.success, "cut": look.danger}
    return edges.get(state, look.border_strong)


def hatch_color(look: Colors) -> QColor:
    """The hatching of truncated tokens."""
    hatch = QColor(look.danger)
    hatch.setAlpha(_HATCH_ALPHA)
    return hatch


def text_color(state: State, look: Colors) -> QColor:
    """The text of a chip."""
    return look.text if state in ("trained", "context") else look.text_muted


def sign_color(look: Colors) -> QColor:
    """The symbols of invisible characters at the start of a chip."""
    return blend(look.background, look.text_muted, 0.75)


def underline_px(weight: float) -> float:
    """The height of the line below a trained token with this weight."""
    return min(_MOST_LINE_PX, max(1.0, _LINE_PX * weight)) if weight else 0.5


def _paint_text(painter: QPainter, place: QRectF, text: str, state: State) -> None:
    look = theme.colors()
    metrics = painter.fontMetrics()
    left = place.left() + PAD_PX
    base = place.top() + (place.height() + metrics.ascent() - metrics.descent()) / 2
    signs = len(text) - len(text.lstrip(SIGNS))
    if signs:
        painter.setPen(sign_color(look))
        painter.drawText(QPointF(left, base), text[:signs])
        left += metrics.horizontalAdvance(text[:signs])
    painter.setPen(text_color(state, look))
    painter.drawText(QPointF(left, base), text[signs:])
