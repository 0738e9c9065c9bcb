"""Adding nodes by search: opens the palette at the mouse and places what is chosen.

With a loose wire it offers only the types that fit, and connects the one that is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QPointF, Qt

from studio.graph.graph import Node
from studio.graph.node_type import NodeType
from studio.graph.schema import Settings
from ui.canvas import layout
from ui.canvas.content import Side, content_of
from ui.canvas.dropping import held_at_header
from ui.canvas.search import SearchPopup
from ui.canvas.wire_rules import End, matching_ports

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


class Finder(QObject):
    """The search palette of one canvas."""

    def __init__(self, view: CanvasView) -> None:
        super().__init__(view)
        self._view = view
        self._at = QPointF()
        self._end: End | None = None
        self.popup = SearchPopup(view)
        self.popup.chosen.connect(self._add)

    def open(self, at: QPointF) -> None:
        """Offer every type; the chosen one is added at ``at`` (viewport pixels)."""
        self._end = None
        self._show(at, self._view.registry.nodes.values(), "")

    def open_for_wire(self, end: End, at: QPointF) -> None:
        """Offer the types that a loose wire from ``end`` could go to."""
        start = self._start(end)
        types = self._view.registry.nodes.values()
        fitting = [t for t in types if matching_ports(start, end, t)]
        port = self._view.graph_scene.nodes[end.node].content.port(end.side, end.port)
        name = port.title if port else end.port
        out = end.side == "output"
        if not fitting:
            self._view.message.emit(f"No node {'accepts' if out else 'provides'} “{name}”.")
            return
        self._end = end
        self._show(at, fitting, f"Connect {name} to" if out else f"Connect {name} from")

    def _start(self, end: End) -> NodeType[Settings] | None:
        return self._view.registry.node_type(self._view.document.graph.node(end.node).type)

    def _show(self, at: QPointF, types: Iterable[NodeType[Settings]], title: str) -> None:
        self._at = self._view.camera.to_scene(at)
        self.popup.open_at(self._view.viewport().mapToGlobal(at.toPoint()), types, title)

    def _add(self, type_id: str) -> None:
        corner = held_at_header(self._at)
        end = self._end
        if end is not None and self._view.document.graph.has(end.node):
            corner = self._at - self._port_offset(type_id, end)
        else:
            end = None
        node_id = self._view.editor.add(type_id, (corner.x(), corner.y()), None, end)
        self._view.select((node_id,))
        self._view.setFocus(Qt.FocusReason.OtherFocusReason)

    def _port_offset(self, type_id: str, end: End) -> QPointF:
        """From a new node's corner to the port that the wire will go to."""
        side: Side = "input" if end.side == "output" else "output"
        ports = matching_ports(self._start(end), end, self._view.registry.nodes[type_id])
        content = content_of(Node("new", type_id), self._view.registry)
        return layout.port_point(content, side, ports[0])
