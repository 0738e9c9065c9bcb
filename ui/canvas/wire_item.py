"""A wire on the canvas, and the wire that follows the mouse. Painted in the colour of its type."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPainterPath, QPainterPathStroker, QPen
from PySide6.QtWidgets import QGraphicsItem

from studio.graph.graph import Wire
from ui.canvas import shapes, text
from ui.style import theme

REACH_PX = 7.0
WIDTH_PX = 2.2
SELECTED_PX = 3.4


class WireItem(QGraphicsItem):
    """One wire of the graph; lies below all nodes."""

    def __init__(self, wire: Wire, type_id: str) -> None:
        super().__init__()
        self.wire = wire
        self.type_id = type_id
        self.selected = False
        self.hovered = False
        self.path = QPainterPath()
        self._line = QLineF()
        self._rect = QRectF()
        self.setZValue(0)

    def set_ends(self, start: QPointF, end: QPointF) -> None:
        """Run from ``start`` to ``end`` (scene coordinates)."""
        self.prepareGeometryChange()
        self._line = QLineF(start, end)
        self.path = shapes.wire_path(start, end)
        self._rect = self.path.controlPointRect().adjusted(-6, -6, 6, 6)

    def mark(self, name: str, value: bool) -> None:
        """Set ``selected`` or ``hovered``."""
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.update()

    def near(self, point: QPointF) -> bool:
        """Whether a point of the scene is on the wire, within a few pixels."""
        if not self._rect.contains(point):
            return False
        reach = QRectF(point.x() - REACH_PX, point.y() - REACH_PX, 2 * REACH_PX, 2 * REACH_PX)
        stroker = QPainterPathStroker(QPen(Qt.GlobalColor.black, 1.0))
        return stroker.createStroke(self.path).intersects(reach)

    def boundingRect(self) -> QRectF:
        """Qt: everything that is painted."""
        return self._rect

    def paint(self, painter: QPainter, option: Any, widget: Any = None) -> None:
        """Qt: a cubic line; thin and plain when zoomed out."""
        del option, widget
        c = theme.colors()
        plain = getattr(self.scene(), "detail", "full") == "plain"
        color = c.port(self.type_id)
        width = SELECTED_PX if self.selected or self.hovered else WIDTH_PX
        if plain:
            painter.setPen(QPen(color, 0))
            painter.drawLine(self._line)
            return
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.selected:
            painter.setPen(QPen(c.accent, width + 3.5))
            painter.drawPath(self.path)
        painter.setPen(QPen(color, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawPath(self.path)


class DraftWire(QGraphicsItem):
    """The wire under the mouse while it is dragged: dashed while it may not end here."""

    def __init__(self, type_id: str) -> None:
        super().__init__()
        self._type_id = type_id
        self._refused = False
        self._path = QPainterPath()
        self._end = QPointF()
        self.setZValue(1e9)

    def set_ends(self, start: QPointF, end: QPointF, refused: bool) -> None:
        """Run from ``start`` to ``end``; ``refused`` draws it as not allowed."""
        self.prepareGeometryChange()
        self._path, self._end, self._refused = shapes.wire_path(start, end), end, refused

    def boundingRect(self) -> QRectF:
        """Qt: everything that is painted."""
        return self._path.controlPointRect().adjusted(-12, -12, 12, 12)

    def paint(self, painter: QPainter, option: Any, widget: Any = None) -> None:
        """Qt: the line and a dot at its loose end."""
        del option, widget
        c = theme.colors()
        color = c.danger if self._refused else c.port(self._type_id)
        pen = QPen(color, 2.4, Qt.PenStyle.DashLine if self._refused else Qt.PenStyle.SolidLine)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(self._path)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        painter.drawEllipse(self._end, 4.5, 4.5)


class Note(QGraphicsItem):
    """A short sentence beside the mouse, the same size at every zoom (why a wire is refused)."""

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._rect = QRectF()
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemIgnoresTransformations)
        self.setZValue(1e9 + 1)
        self.setVisible(False)

    def say(self, sentence: str, scene_pos: QPointF) -> None:
        """Show ``sentence`` below ``scene_pos``; an empty one hides the note."""
        self.setVisible(bool(sentence))
        if sentence != self._text:
            self.prepareGeometryChange()
            self._text = sentence
            metrics = text.font(12)[1]
            box = metrics.boundingRect(QRectF(0, 0, 280, 400), Qt.TextFlag.TextWordWrap, sentence)
            self._rect = QRectF(16, 16, box.width() + 22, box.height() + 14)
        self.setPos(scene_pos)

    def boundingRect(self) -> QRectF:
        """Qt: everything that is painted."""
        return self._rect.adjusted(-1, -1, 1, 1)

    def paint(self, painter: QPainter, option: Any, widget: Any = None) -> None:
        """Qt: a pill with the sentence."""
        del option, widget
        c = theme.colors()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(c.danger, 1))
        painter.setBrush(c.surface)
        painter.drawRoundedRect(self._rect, 6, 6)
        painter.setPen(c.text)
        painter.setFont(text.font(12)[0])
        inner = self._rect.adjusted(10, 7, -8, -7)
        painter.drawText(inner, Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft, self._text)
