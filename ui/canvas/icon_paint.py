"""Icons on the canvas, sharp at every zoom. It knows no node."""

from __future__ import annotations

from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QPainter

from ui.style import icons


def draw_icon(painter: QPainter, name: str, rect: QRectF, color: QColor) -> None:
    """An icon, rendered for the pixels it really covers."""
    ratio = painter.deviceTransform().m11()
    steps = next((s for s in (1.0, 1.5, 2.0, 3.0) if s >= ratio - 0.01), 4.0)
    pixmap = icons.pixmap(name, round(rect.width()), color, steps)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawPixmap(rect, pixmap, QRectF(pixmap.rect()))
