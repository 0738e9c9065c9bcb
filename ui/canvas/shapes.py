"""The shapes of port types and the curve of a wire: a type has a shape as well as a colour."""

from __future__ import annotations

import math
from functools import lru_cache

from PySide6.QtCore import QPointF
from PySide6.QtGui import QPainterPath, QPolygonF

from ui.canvas.layout import PORT_RADIUS

SHAPES = {
    "dataset": "circle",
    "model": "square",
    "adapted_model": "diamond",
    "adapter": "triangle",
    "report": "pentagon",
}
UNKNOWN_SHAPE = "hexagon"
_CORNERS = {"diamond": (4, 0.0), "triangle": (3, 0.0), "pentagon": (5, -90.0), "hexagon": (6, 0.0)}
_GROWN = {"diamond": 1.18, "triangle": 1.22, "pentagon": 1.1, "hexagon": 1.05}


def shape_of(type_id: str) -> str:
    """The name of a port type's shape."""
    return SHAPES.get(type_id, UNKNOWN_SHAPE)


@lru_cache(maxsize=64)
def port_path(type_id: str, radius: float = PORT_RADIUS) -> QPainterPath:
    """The outline of a port around (0, 0)."""
    shape = shape_of(type_id)
    path = QPainterPath()
    if shape == "circle":
        path.addEllipse(QPointF(), radius, radius)
    elif shape == "square":
        half = radius * 0.9
        path.addRoundedRect(-half, -half, 2 * half, 2 * half, 1.5, 1.5)
    else:
        corners, turn = _CORNERS[shape]
        grown = radius * _GROWN[shape]
        angles = [math.radians(turn + 360 * k / corners) for k in range(corners)]
        path.addPolygon(
            QPolygonF([QPointF(grown * math.cos(a), grown * math.sin(a)) for a in angles])
        )
        path.closeSubpath()
    return path


def wire_path(start: QPointF, end: QPointF) -> QPainterPath:
    """A smooth cubic that leaves an output to the right and enters an input from the left."""
    dx, dy = end.x() - start.x(), end.y() - start.y()
    if dx >= 0:
        pull = min(max(dx * 0.5, min(40.0, abs(dy) * 0.5 + 12.0)), 220.0)
    else:
        pull = min(60.0 + abs(dx) * 0.5, 240.0)
    path = QPainterPath(start)
    path.cubicTo(start.x() + pull, start.y(), end.x() - pull, end.y(), end.x(), end.y())
    return path
