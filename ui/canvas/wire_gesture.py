"""Dragging a wire from either end, with live acceptance.

Ports that accept it light up, all others dim; over one that does not, a note gives the reason from
``studio.graph.wires.check_wire``. A wire taken off an input is moved, not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, Qt

from studio.graph import edits
from studio.graph.graph import Wire
from ui.canvas import layout
from ui.canvas.content import Side
from ui.canvas.gestures import Gesture, Modifiers
from ui.canvas.node_item import NodeItem
from ui.canvas.wire_item import DraftWire, Note
from ui.canvas.wire_rules import End, acceptable, refusal, wire_between

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


class DragWire(Gesture):
    """Left button on a port: draw a wire to where it may end, or move the one that is there."""

    cursor = Qt.CursorShape.CrossCursor

    def __init__(self, view: CanvasView, at: QPointF, item: NodeItem, side: Side, port: str):
        super().__init__(at)
        self.view = view
        graph = view.document.graph
        self._moving: Wire | None = graph.wire_into(item.id, port) if side == "input" else None
        if self._moving is not None:
            self._fixed = End(self._moving.source, "output", self._moving.source_port)
            graph = edits.disconnect(graph, self._moving)
        else:
            self._fixed = End(item.id, side, port)
        self._graph = graph
        self._good: dict[str, frozenset[End]] = {}
        self._target: End | None = None
        self._reason = ""
        self._on_node = False
        self._draft: DraftWire | None = None
        self._note = Note()

    def start(self) -> None:
        """Begin the drag: mark every port, show the loose wire."""
        scene = self.view.graph_scene
        self._good = acceptable(self._graph, self.view.registry, self._fixed)
        if self._fixed.node not in scene.nodes:
            return
        for node_id, item in scene.nodes.items():
            ends = self._good.get(node_id, frozenset())
            item.mark("lit", frozenset((end.side, end.port) for end in ends))
        start = scene.nodes[self._fixed.node]
        start.mark("lit", frozenset({(self._fixed.side, self._fixed.port)}))
        port = start.content.port(self._fixed.side, self._fixed.port)
        self._draft = DraftWire(port.type if port else "")
        scene.addItem(self._draft)
        scene.addItem(self._note)
        if self._moving in scene.wires:
            scene.wires[self._moving].setVisible(False)

    def move(self, at: QPointF, modifiers: Modifiers) -> None:
        """Find the target under the mouse and show whether the wire may end there."""
        point = self.view.camera.to_scene(at)
        self._find(point)
        loose = point
        if self._target is not None and not self._reason:
            item = self.view.graph_scene.nodes[self._target.node]
            loose = item.port_point(self._target.side, self._target.port)
        fixed = self.view.graph_scene.nodes[self._fixed.node].port_point(
            self._fixed.side, self._fixed.port
        )
        ends = (fixed, loose) if self._fixed.side == "output" else (loose, fixed)
        if self._draft is not None:
            self._draft.set_ends(*ends, refused=bool(self._reason))
        self._note.say(self._reason, point)

    def _find(self, point: QPointF) -> None:
        """Set the target and, if it would refuse, the reason."""
        scene, scale = self.view.graph_scene, self.view.camera.scale
        reach = layout.PORT_REACH * max(1.0, min(3.0, 1.0 / scale))
        wanted: Side = "input" if self._fixed.side == "output" else "output"
        hit = scene.port_at(point, wanted, reach) or scene.port_at(point, None, reach)
        self._target, reason = None, ""
        node = hit[0] if hit else scene.node_at(point)
        self._on_node = node is not None
        if hit is not None and (hit[0].id, hit[1], hit[2]) != self._own():
            self._target = End(hit[0].id, hit[1], hit[2])
        elif hit is None and node is not None and node.id != self._fixed.node:
            self._target = self._best(node, wanted)
            if self._target is None:
                reason = f"{node.content.title} has no {wanted}."
        if self._target is not None:
            reason = refusal(self._graph, self.view.registry, self._fixed, self._target)
        if reason and reason != self._reason:
            self.view.message.emit(reason)
        self._reason = reason

    def _own(self) -> tuple[str, Side, str]:
        return self._fixed.node, self._fixed.side, self._fixed.port

    def _best(self, node: NodeItem, side: Side) -> End | None:
        """The port meant by a drop on a node's body: the first that fits, a free one first."""
        good = self._good.get(node.id, frozenset())
        ports = [End(node.id, side, p.name) for p in node.content.ports(side)]
        fitting = [end for end in ports if end in good]
        free = [end for end in fitting if (end.side, end.port) not in node.wired]
        return next(iter(free + fitting + ports), None)

    def release(self, at: QPointF, modifiers: Modifiers) -> None:
        """Connect, move or remove the wire, or ask which node to add."""
        target, reason, moving = self._target, self._reason, self._moving
        self._tidy()
        if not self.started:
            return
        wire = wire_between(self._fixed, target) if target is not None else None
        if reason:
            self.view.message.emit(reason)
        elif wire is not None:
            self._connect(wire)
        elif moving is not None and not self._on_node:
            self.view.editor.delete((), (moving,))
            self.view.message.emit("Wire removed.")
        elif moving is None and not self._on_node:
            self.view.finder.open_for_wire(self._fixed, at)

    def _connect(self, wire: Wire) -> None:
        if wire == self._moving:
            return
        pushed = self.view.editor.connect(wire, self._moving)
        if pushed is not None:
            source = self.view.editor.title(pushed.source)
            self.view.message.emit(f"Replaced the wire from {source}.")

    def cancel(self) -> None:
        """Leave the graph unchanged."""
        self._tidy()

    def _tidy(self) -> None:
        scene = self.view.graph_scene
        for item in scene.nodes.values():
            item.mark("lit", None)
        if self._moving in scene.wires:
            scene.wires[self._moving].setVisible(True)
        for extra in (self._draft, self._note):
            if extra is not None and extra.scene() is scene:
                scene.removeItem(extra)
        self._draft = None
