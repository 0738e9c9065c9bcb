"""One node on the canvas, with its content and state. It is painted, never a widget.

It holds view state only; the graph decides what exists and where. Painting is in ``node_paint``.
It must not edit the document.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QGraphicsItem

from studio.errors import Problem
from studio.graph.graph import Node

# Import cycle: the painting is given the item, and names its class in type hints only.
from ui.canvas import layout, node_paint, text
from ui.canvas.content import NodeContent, Side
from ui.canvas.status import NodeStatus

PortKey = tuple[Side, str]
SELECTED_Z = 1e6


class NodeItem(QGraphicsItem):
    """The card of one node. Ports are painted by it and found by ``port_at``."""

    def __init__(self, node: Node, content: NodeContent) -> None:
        super().__init__()
        self.node = node
        self.content = content
        self.status: NodeStatus | None = None
        self.problems: tuple[Problem, ...] = ()
        self.note, self.note_warns = "", False
        self.selected = False
        self.current = False
        self.hovered_port: PortKey | None = None
        self.lit: frozenset[PortKey] | None = None
        self.wired: dict[PortKey, str] = {}
        self.texts: dict[tuple[str, int, int], str] = {}
        self.sizes: dict[tuple[str, int, int, int], int] = {}
        self.grown = 0
        self.title_px = text.TITLE
        self.card = layout.card(content)
        self._bounds = _around(self.card)
        self.order = -1  # not placed among the others yet
        self.setPos(QPointF(*node.position))

    @property
    def id(self) -> str:
        """The node's id in the graph."""
        return self.node.id

    def set_node(self, node: Node, content: NodeContent) -> None:
        """Show another state of the same node."""
        if node.position != self.node.position or self.pos() != QPointF(*node.position):
            self.setPos(QPointF(*node.position))
        self.node = node
        if content != self.content:
            self.content = content
            self.refresh()

    def set_status(self, status: NodeStatus | None) -> None:
        """Show the node's part of a run."""
        if status != self.status:
            self.status = status
            self.refresh()

    def set_problems(self, problems: tuple[Problem, ...]) -> None:
        """Show a badge for these problems."""
        if problems != self.problems:
            self.problems = problems
            self.refresh()

    def set_note(self, note: str, warns: bool) -> None:
        """A few words at the right of the header."""
        if (note, warns) != (self.note, self.note_warns):
            self.note, self.note_warns = note, warns
            self.refresh()

    def set_order(self, order: int) -> None:
        """Drawing order among its like; a selected node lies on top."""
        self.order = order
        self.setZValue(order + 1 + (SELECTED_Z if self.selected else 0))

    def set_selected(self, selected: bool, current: bool) -> None:
        """Mark as selected; ``current`` is the one that the keyboard moves from."""
        if (selected, current) != (self.selected, self.current):
            self.selected, self.current = selected, current
            self.set_order(self.order)
            self.update()

    def mark(self, name: str, value: Any) -> None:
        """Set one of the marks ``hovered_port``, ``lit`` or ``wired`` and repaint if it changed."""
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.update()

    def refresh(self) -> None:
        """Lay out again and repaint (content, status, font or colours changed)."""
        self.texts.clear()
        self.sizes.clear()
        s = self.status
        card = layout.card(self.content, layout.footer_height(s.lines, s.bar) if s else 0.0)
        if card != self.card:
            self.prepareGeometryChange()
            self.card, self._bounds = card, _around(card)
        self.update()

    def port_point(self, side: Side, name: str) -> QPointF:
        """Centre of a port in scene coordinates."""
        return self.pos() + layout.port_point(self.content, side, name)

    def port_at(self, scene_pos: QPointF, reach: float = layout.PORT_REACH) -> PortKey | None:
        """The port whose centre is within ``reach`` of a point of the scene, or ``None``."""
        local = scene_pos - self.pos()
        if not self.card.adjusted(-reach, 0, reach, 0).contains(local):
            return None
        for side in ("input", "output"):
            for port in self.content.ports(side):
                gap = local - layout.port_point(self.content, side, port.name)
                if gap.x() ** 2 + gap.y() ** 2 <= reach**2:
                    return side, port.name
        return None

    def contains_scene(self, scene_pos: QPointF) -> bool:
        """Whether a point of the scene is on the card."""
        return self.card.contains(scene_pos - self.pos())

    def scene_card(self) -> QRectF:
        """The card in scene coordinates."""
        return self.card.translated(self.pos())

    def boundingRect(self) -> QRectF:
        """Qt: everything that is painted."""
        return self._bounds

    def paint(self, painter: Any, option: Any, widget: Any = None) -> None:
        """Qt: paint in the detail that the scene asks for."""
        del option, widget
        scene = self.scene()
        self.grown = getattr(scene, "grown", 0)
        self.title_px = getattr(scene, "title_px", text.TITLE)
        node_paint.paint(painter, self, getattr(scene, "detail", "full"))


def _around(card: QRectF) -> QRectF:
    m = layout.MARGIN
    return card.adjusted(-m, -m, m, m)
