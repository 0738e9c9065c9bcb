"""Text and icons on the canvas: the program's font in scene pixels, elided to its space, larger
when zoomed out.

A graph that is fitted into a small canvas is drawn at half size; titles and labels grow within
their rows, so that they can still be read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QGuiApplication, QPainter

from ui.style import icons

if TYPE_CHECKING:
    from ui.canvas.node_item import NodeItem

LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
CENTER = Qt.AlignmentFlag.AlignCenter
TITLE, LABEL, SMALL = 13, 12, 11
WRAPPED = Qt.AlignmentFlag.AlignLeft.value | Qt.TextFlag.TextWordWrap.value
_GROWN = {LABEL: (12, 14, 16), SMALL: (11, 12, 13)}
_STEPS = (0.85, 0.65)
_TITLE_ON_SCREEN, _LARGEST_TITLE = 11.5, 44


@lru_cache(maxsize=32)
def _font(family: str, pixels: int, bold: bool) -> tuple[QFont, QFontMetricsF]:
    font = QFont(family)
    font.setPixelSize(pixels)
    font.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    return font, QFontMetricsF(font)


def font(pixels: int, bold: bool = False) -> tuple[QFont, QFontMetricsF]:
    """The program's font in a size of scene pixels, and its metrics."""
    return _font(QGuiApplication.font().family(), pixels, bold)


def growth(scale: float) -> int:
    """The enlargement of text at a scale of the view: 0, 1 or 2."""
    return sum(scale < step for step in _STEPS)


def size(kind: int, grown: int) -> int:
    """Pixels of ``LABEL`` or ``SMALL`` text."""
    return _GROWN[kind][grown]


def title_size(scale: float) -> int:
    """Pixels of a title: on the screen about ``_TITLE_ON_SCREEN``, whatever the scale of the view."""
    return round(min(_LARGEST_TITLE, max(TITLE, _TITLE_ON_SCREEN / scale)))


def width(text: str, pixels: int, bold: bool = False) -> float:
    """The width of a text."""
    return font(pixels, bold)[1].horizontalAdvance(text)


def draw(
    painter: QPainter,
    item: NodeItem,
    text: str,
    rect: QRectF,
    color: QColor,
    pixels: int,
    bold: bool = False,
    flags: Qt.AlignmentFlag = LEFT,
) -> None:
    """Draw one line, elided to its space; the elided text is cached on the item until its next
    layout."""
    if not text:
        return
    face, metrics = font(pixels, bold)
    key = (text, pixels, round(rect.width()))
    shown = item.texts.get(key)
    if shown is None:
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, rect.width())
        item.texts[key] = shown
    painter.setFont(face)
    painter.setPen(color)
    painter.drawText(rect, flags, shown)


def draw_wrapped(
    painter: QPainter, item: NodeItem, text: str, rect: QRectF, color: QColor, pixels: int
) -> None:
    """Draw bold text in as many lines as the space has; smaller before its end is left out."""
    key = (text, pixels, round(rect.width()), round(rect.height()))
    found = item.sizes.get(key)
    if found is None:
        found = pixels
        while found > TITLE and not _has_room(text, rect, found):
            found -= 1
        item.sizes[key] = found
    painter.setFont(font(found, True)[0])
    painter.setPen(color)
    painter.drawText(rect, WRAPPED, text)


def _has_room(text: str, rect: QRectF, pixels: int) -> bool:
    needed = font(pixels, True)[1].boundingRect(rect, WRAPPED, text)
    return needed.height() <= rect.height() and needed.width() <= rect.width()


def draw_icon(painter: QPainter, name: str, rect: QRectF, color: QColor) -> None:
    """Draw an icon, rendered in device pixels."""
    ratio = painter.deviceTransform().m11()
    steps = next((s for s in (1.0, 1.5, 2.0, 3.0) if s >= ratio - 0.01), 4.0)
    pixmap = icons.pixmap(name, round(rect.width()), color, steps)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawPixmap(rect, pixmap, QRectF(pixmap.rect()))
