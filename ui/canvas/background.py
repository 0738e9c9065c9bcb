"""The background of the canvas: a grid of dots, and a hint while it is empty."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QPainter, QPen, QPolygonF, QTransform

from ui.canvas import text
from ui.style import theme

PITCH = 20.0
MIN_PITCH_PX = 14.0
HINT_HEIGHT = 148
LOW_HINT_HEIGHT = 64
_MIDDLE = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
HINT = "Drop a file here, or press Tab to add a node"
MORE = "Drag nodes from the list, connect their ports, then press Run"


@lru_cache(maxsize=8)
def _row(pitch_px: float, count: int) -> QPolygonF:
    return QPolygonF([QPointF(k * pitch_px, 0) for k in range(count)])


def paint_grid(painter: QPainter, exposed: QRectF, to_view: QTransform) -> None:
    """Fill ``exposed`` (scene) and dot it; the dots get sparser as the scale falls."""
    c = theme.colors()
    area = to_view.mapRect(exposed).adjusted(-1, -1, 1, 1)
    pitch = PITCH * to_view.m11()
    while pitch < MIN_PITCH_PX:
        pitch *= 2
    painter.save()
    painter.resetTransform()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.fillRect(area, c.background)
    painter.setPen(QPen(c.grid, 2))
    left = area.left() - (area.left() - to_view.dx()) % pitch
    top = area.top() - (area.top() - to_view.dy()) % pitch
    row = _row(pitch, int(area.width() / pitch) + 3)
    painter.translate(left, top)
    for _ in range(int(area.height() / pitch) + 3):
        painter.drawPoints(row)
        painter.translate(0, pitch)
    painter.restore()


def paint_hint(painter: QPainter, room: QRect) -> None:
    """The hint in the middle of ``room``, in view pixels: one line where ``room`` is low."""
    c = theme.colors()
    low = room.height() < HINT_HEIGHT
    painter.save()
    painter.resetTransform()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    frame = QRectF(0, 0, min(460, room.width() - 24), min(HINT_HEIGHT, room.height() - 8))
    frame.moveCenter(QRectF(room).center())
    painter.setPen(QPen(c.border_strong, 1.2, Qt.PenStyle.DashLine))
    painter.setBrush(c.surface)
    painter.drawRoundedRect(frame, 14, 14)
    painter.setFont(text.font(15, True)[0])
    painter.setPen(c.text)
    inside = frame.adjusted(8, 0, -8, 0)
    painter.drawText(inside if low else inside.adjusted(0, 62, 0, -60), _MIDDLE, HINT)
    if not low:
        icon = QRectF(frame.center().x() - 14, frame.top() + 22, 28, 28)
        text.draw_icon(painter, "file-plus", icon, c.accent)
        painter.setFont(text.font(12)[0])
        painter.setPen(c.text_muted)
        painter.drawText(inside.adjusted(0, 92, 0, -24), _MIDDLE, MORE)
    painter.restore()
