"""Painting of a node's ports and their titles; shape and colour of a port show its type.

Reads a ``NodeItem`` and the theme; keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen

from studio.graph.facts import short_line
from ui.canvas import layout, shapes, text
from ui.canvas.content import PortContent
from ui.style import theme

if TYPE_CHECKING:
    from ui.canvas.node_item import NodeItem

_PAD = 12.0
_LABEL_PAD = 16.0


def paint_ports(painter: QPainter, item: NodeItem, c: theme.Colors, labels: bool) -> None:
    """Every port of a node; with ``labels`` also its title and the facts of the node."""
    for side in ("input", "output"):
        for row, port in enumerate(item.content.ports(side)):
            at = layout.port_point(item.content, side, port.name)
            lit = item.lit is not None and (side, port.name) in item.lit
            faded = bool(item.lit) and not lit
            if labels:
                _label(painter, item, port, row, c, lit, faded)
            _port(painter, item, port, at, c, lit, faded)
    if labels and not item.content.inputs:
        _facts(painter, item, c)


def _facts(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    """The facts of the node, drawn in place of inputs."""
    pixels = text.size(text.SMALL, item.grown)
    taken = max((text.width(p.title, pixels) for p in item.content.outputs), default=0.0)
    room = layout.WIDTH - _PAD - _LABEL_PAD - taken - 14
    rect = QRectF(_PAD, layout.port_y(0) - 11, room, 22)
    line = short_line(item.content.facts)
    if text.width(line, pixels) > room:  # a truncated number would be misleading
        line = line.partition(" · ")[0]
    text.draw(painter, item, line, rect, c.text_muted, pixels)


def _label(
    painter: QPainter,
    item: NodeItem,
    port: PortContent,
    row: int,
    c: theme.Colors,
    lit: bool,
    faded: bool,
) -> None:
    """A port's title; it may use the space that the opposite title leaves free."""
    pixels = text.size(text.LABEL, item.grown)
    room = width = layout.WIDTH - 2 * _LABEL_PAD
    across = item.content.ports("output" if port.side == "input" else "input")
    if row < len(across):
        room = max(width / 2 - 4, width - 8 - text.width(across[row].title, pixels))
    left = _LABEL_PAD if port.side == "input" else layout.WIDTH - _LABEL_PAD - room
    rect = QRectF(left, layout.port_y(row) - 11, room, 22)
    color = theme.blend(c.surface_raised, c.text_muted, 0.4) if faded else c.text_muted
    flags = text.LEFT if port.side == "input" else text.RIGHT
    text.draw(painter, item, port.title, rect, c.text if lit else color, pixels, False, flags)


def _port(
    painter: QPainter,
    item: NodeItem,
    port: PortContent,
    at: QPointF,
    c: theme.Colors,
    lit: bool,
    faded: bool,
) -> None:
    key = (port.side, port.name)
    carried = item.wired.get(key)
    type_id = carried or port.type
    color = c.port(type_id)
    if faded:
        color = theme.blend(c.surface_raised, color, 0.3)
    painter.save()
    painter.translate(at)
    if lit or item.hovered_port == key:
        halo = QColor(color)
        halo.setAlpha(80)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(halo)
        painter.drawEllipse(QPointF(), 12, 12)
    painter.setPen(QPen(c.surface_raised, 3.5))
    path = shapes.port_path(type_id)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPath(path)
    filled = carried is not None or lit
    painter.setPen(QPen(color, 1.8))
    painter.setBrush(QBrush(color if filled else c.surface_raised))
    painter.drawPath(path)
    if len(port.types) > 1 and not filled:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(c.port(port.types[1]))
        painter.drawPath(shapes.port_path(port.types[1], 2.6))
    painter.restore()
