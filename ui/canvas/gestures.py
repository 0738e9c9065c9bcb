"""One object per mouse gesture: pan, box select, drag nodes, drag a wire.

A gesture is created on press, receives every move, and ends with ``release`` or ``cancel`` (Esc).
Only ``release`` may edit the document, and it does so once: a drag is one undo step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QGraphicsRectItem

from studio.graph import edits
from studio.graph.graph import Wire
from ui.canvas import layout
from ui.canvas.camera import Camera
from ui.canvas.content import Side
from ui.canvas.node_item import NodeItem
from ui.canvas.wire_item import DraftWire, Note
from ui.canvas.wire_rules import End, acceptable, refusal, wire_between
from ui.style import theme

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


Modifiers = Qt.KeyboardModifier
DRAG_STARTS_PX = 4.0
_TOGGLE = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier


def toggles(modifiers: Modifiers) -> bool:
    """Whether Shift or Ctrl is held: the selection is changed, not replaced."""
    return bool(modifiers & _TOGGLE)


class Gesture:
    """What all gestures share. Positions are in view pixels, not rounded."""

    cursor: Qt.CursorShape | None = None

    def __init__(self, at: QPointF) -> None:
        self.pressed_at = QPointF(at)
        self.started = False

    def drag(self, at: QPointF, modifiers: Modifiers) -> None:
        """The mouse moved; nothing happens before it has moved a few pixels."""
        if not self.started:
            if (at - self.pressed_at).manhattanLength() < DRAG_STARTS_PX:
                return
            self.started = True
            self.start()
        self.move(at, modifiers)

    def start(self) -> None:
        """The drag begins."""

    def move(self, at: QPointF, modifiers: Modifiers) -> None:
        """The mouse is at ``at`` while the drag lasts."""

    def release(self, at: QPointF, modifiers: Modifiers) -> None:
        """The button was released: make the edit."""

    def cancel(self) -> None:
        """Restore the state from before the gesture."""


class Pan(Gesture):
    """Middle button, or Space and the left one: shift the picture."""

    cursor = Qt.CursorShape.ClosedHandCursor

    def __init__(self, camera: Camera, at: QPointF) -> None:
        super().__init__(at)
        self._camera = camera
        self._last = at.toPoint()
        self._path = self._last * 0

    def drag(self, at: QPointF, modifiers: Modifiers) -> None:
        """Follow from the first pixel."""
        step = at.toPoint() - self._last
        self._last = at.toPoint()
        self._path += step
        self._camera.pan(step)

    def cancel(self) -> None:
        """Go back to where the pan began."""
        self._camera.pan(-self._path)


class BoxSelect(Gesture):
    """Left button on empty canvas: select what the box touches."""

    def __init__(self, view: CanvasView, at: QPointF, modifiers: Modifiers) -> None:
        super().__init__(at)
        self.view = view
        self._before = view.selected_ids()
        self._kept = self._before if toggles(modifiers) else ()
        self._origin = view.camera.to_scene(at)
        self._box: QGraphicsRectItem | None = None

    def start(self) -> None:
        """Show the box."""
        c = theme.colors()
        fill = QColor(c.accent)
        fill.setAlpha(36)
        pen = QPen(c.accent, 1, Qt.PenStyle.DashLine)
        pen.setCosmetic(True)
        self._box = QGraphicsRectItem()
        self._box.setPen(pen)
        self._box.setBrush(fill)
        self._box.setZValue(1e9)
        self.view.graph_scene.addItem(self._box)

    def move(self, at: QPointF, modifiers: Modifiers) -> None:
        """Grow the box; the selection follows at once."""
        rect = QRectF(self._origin, self.view.camera.to_scene(at)).normalized()
        if self._box is not None:
            self._box.setRect(rect)
        inside = self.view.graph_scene.nodes_in(rect)
        kept = tuple(i for i in self._kept if i not in inside)
        fresh = tuple(i for i in inside if i not in self._kept)
        self.view.select(kept + fresh)

    def release(self, at: QPointF, modifiers: Modifiers) -> None:
        """Keep the selection; a click without a drag clears it."""
        if not self.started and not toggles(modifiers):
            self.view.select(())
        self._remove()

    def cancel(self) -> None:
        """Back to the selection from before."""
        self.view.select(self._before)
        self._remove()

    def _remove(self) -> None:
        if self._box is not None:
            self.view.graph_scene.removeItem(self._box)
            self._box = None


class DragNodes(Gesture):
    """Left button on a node: select it, and move all that is selected, on the grid."""

    def __init__(self, view: CanvasView, at: QPointF, item: NodeItem, modifiers: Modifiers) -> None:
        super().__init__(at)
        self.view = view
        self._id = item.id
        self._was_selected = item.selected
        self._origin = view.camera.to_scene(at)
        self._from: dict[str, QPointF] = {}
        if toggles(modifiers):
            view.toggle(item.id)
        elif not item.selected:
            view.select((item.id,))
        else:
            view.make_current(item.id)

    def start(self) -> None:
        """Remember all positions."""
        ids = self.view.selected_ids()
        self._from = {i: QPointF(self.view.graph_scene.nodes[i].pos()) for i in ids}

    def move(self, at: QPointF, modifiers: Modifiers) -> None:
        """Show the nodes where they would land; the grabbed one lies on the grid."""
        if self._id not in self._from:
            return
        grabbed = self._from[self._id]
        wanted = grabbed + self.view.camera.to_scene(at) - self._origin
        delta = QPointF(*layout.snapped(wanted)) - grabbed
        self.view.graph_scene.place({i: p + delta for i, p in self._from.items()})

    def release(self, at: QPointF, modifiers: Modifiers) -> None:
        """One edit for the entire drag; a plain click selects only this node."""
        if self.started:
            nodes = self.view.graph_scene.nodes
            spots = {i: (nodes[i].pos().x(), nodes[i].pos().y()) for i in self._from}
            self.view.editor.move(spots)
        elif not toggles(modifiers):
            if self._was_selected:
                self.view.select((self._id,))
            self.view.node_clicked(self._id, at)

    def cancel(self) -> None:
        """Put the nodes back."""
        self.view.graph_scene.place(self._from)


class DragWire(Gesture):
    """Left button on a port: draw a wire to where it may end, or move the one that is there.

    Ports that accept it light up, all others dim; over one that does not, a note gives the reason
    from ``studio.graph.wires.check_wire``. A wire taken off an input is moved, not copied.
    """

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

    def begin(self) -> None:
        """Begin without the mouse: ``aim`` chooses the end, ``finish`` connects."""
        self.started = True
        self.start()

    @property
    def fixed(self) -> End:
        """The end that stays."""
        return self._fixed

    def ends(self) -> frozenset[End]:
        """Every port at which the wire may end."""
        return frozenset().union(*self._good.values())

    def aim(self, end: End) -> None:
        """Let the wire end at this port, which accepts it."""
        self._target, self._reason, self._on_node = end, "", True
        self._draw(self.view.graph_scene.nodes[end.node].port_point(end.side, end.port))

    def finish(self) -> None:
        """Connect to the port that was aimed at."""
        self.release(QPointF(), Modifiers.NoModifier)

    def move(self, at: QPointF, modifiers: Modifiers) -> None:
        """Find the target under the mouse and show whether the wire may end there."""
        point = self.view.camera.to_scene(at)
        self._find(point)
        self._draw(point)

    def _draw(self, point: QPointF) -> None:
        """The loose wire, to the target that accepts it, or to a point of the scene."""
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
        target, reason, moving, draft = self._target, self._reason, self._moving, self._draft
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
            self.view.finder.open_for_wire(self._fixed, at, draft)

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
