"""The layout of a node in scene pixels from its top-left corner. Numbers only, no painting."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF

from ui.canvas.content import NodeContent, Side

GRID = 10
WIDTH = 220
RADIUS = 9
HEADER = 36
SUMMARY = 26
ROW = 24
BOTTOM = 8
FOOTER_LINE = 18
FOOTER_PAD = 6
BAR = 3
PORT_RADIUS = 6.0
PORT_REACH = 13.0
"Maximum distance from a port's centre at which a press or a dropped wire hits the port."
MARGIN = 14
"Margin around the card for ports, halo, outline and shadow."


def port_y(row: int) -> float:
    """Height of the centre of a port's row."""
    return HEADER + SUMMARY + ROW * row + ROW / 2


def port_point(content: NodeContent, side: Side, name: str) -> QPointF:
    """Centre of a port; a missing port is placed at the end of its side."""
    ports = content.ports(side)
    row = next((i for i, p in enumerate(ports) if p.name == name), max(0, len(ports) - 1))
    return QPointF(0.0 if side == "input" else WIDTH, port_y(row))


def body_height(content: NodeContent) -> float:
    """Height without the run's footer."""
    rows = max(len(content.inputs), len(content.outputs))
    return HEADER + SUMMARY + ROW * rows + (BOTTOM if rows else 2)


def footer_height(lines: int, bar: bool) -> float:
    """Height of the footer with ``lines`` lines of text; 0 without any."""
    return FOOTER_LINE * lines + 2 * FOOTER_PAD + (BAR if bar else 0) if lines else 0.0


def card(content: NodeContent, footer: float = 0.0) -> QRectF:
    """The rectangle of the card."""
    return QRectF(0, 0, WIDTH, body_height(content) + footer)


def snap(value: float) -> float:
    """The nearest multiple of the grid."""
    return float(round(value / GRID) * GRID)


def snapped(point: QPointF) -> tuple[float, float]:
    """A point on the grid, as the graph keeps positions."""
    return snap(point.x()), snap(point.y())
