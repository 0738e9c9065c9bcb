"""Wires by keyboard: choose a port of a node, then a port that fits.

``C`` puts the focus on a port of the current node. Arrow keys go from port to port, Delete removes its
wire, Enter takes up a wire there, as the mouse does: the one of an input that has one is moved. Arrow keys then
go through the ports where the wire may end, Enter connects, Tab adds a node for it, and Esc goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QKeyEvent

from studio.graph.graph import Wire
from ui.canvas import tips
from ui.canvas.directions import DIRECTIONS, nearest
from ui.canvas.gestures import DragWire
from ui.canvas.wire_rules import End

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
_DELETE = (Qt.Key.Key_Delete, Qt.Key.Key_Backspace)
_MODIFIERS = (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta)
_ROOM_PX = 60
PORT_KEYS = "Arrow keys choose a port, Enter takes up a wire, Delete removes it, Esc leaves."
END_KEYS = "Arrow keys choose where it ends, Enter connects, Tab adds a node, Esc goes back."


class KeyWires:
    """The focus on the ports of one node, and the wire that is taken up there.

    It ends (``cancel``) with Esc, a click, another selection, or when the canvas loses the focus.
    """

    def __init__(self, view: CanvasView, node: str) -> None:
        self._view = view
        content = view.graph_scene.nodes[node].content
        self._ports = [
            End(node, side, port.name)
            for side in ("output", "input")
            for port in content.ports(side)
        ]
        self._port: End | None = None
        self._drag: DragWire | None = None
        self._ends: list[End] = []
        self._end: End | None = None

    def start(self) -> bool:
        """Focus the first output, or input; False, with a message, for a node without ports."""
        if not self._ports:
            self._view.message.emit("This node has no ports.")
            return False
        self._choose_port(self._ports[0])
        return True

    def press(self, event: QKeyEvent) -> bool:
        """Handle a key; False ends the mode and leaves the key to the canvas."""
        key = Qt.Key(event.key())
        if not self.uses(event):
            return key in _MODIFIERS
        if self._drag is None:
            return self._press_at_port(key)
        return self._press_at_end(key, self._drag)

    @staticmethod
    def uses(event: QKeyEvent) -> bool:
        """Whether a key is for the ports: those without Ctrl, Alt and Shift."""
        plain = not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        return plain and Qt.Key(event.key()) not in _MODIFIERS

    def cancel(self) -> None:
        """Leave the graph as it is, and show no focus."""
        self._drop()
        self._mark(self._port, False)
        self._port = None

    # ------------------------------------------------------------ the port to begin at

    def _press_at_port(self, key: Qt.Key) -> bool:
        port = self._port
        if port is None or key == Qt.Key.Key_Escape:
            return False
        if key in DIRECTIONS:
            self._choose_port(self._nearest(self._ports, port, key) or port)
        elif key in _ENTER:
            self._take_up(port)
        elif key in _DELETE:
            self._remove(port)
        else:
            return False
        return True

    def _choose_port(self, port: End) -> None:
        self._mark(self._port, False)
        self._port = port
        self._mark(port, True)
        place = self._ports.index(port) + 1
        self._say(f"{self._words(port)}, {place} of {len(self._ports)}", PORT_KEYS)

    def _remove(self, port: End) -> None:
        """Remove the wire of an input, or the only one of an output."""
        wires = self._wires(port)
        if len(wires) == 1:
            self._view.editor.delete((), wires)  # ends this mode, as every edit
            self._view.message.emit("Wire removed.")
        elif wires:
            self._view.message.emit(f"{len(wires)} wires begin here: remove each at its input.")
        else:
            self._view.message.emit("There is no wire at this port.")

    # ------------------------------------------------------------ where the wire ends

    def _take_up(self, port: End) -> None:
        view = self._view
        item = view.graph_scene.nodes[port.node]
        drag = DragWire(view, QPointF(), item, port.side, port.port)
        drag.begin()
        self._ends = sorted(drag.ends(), key=self._place_of)
        self._drag = drag
        if self._ends:
            self._aim(min(self._ends, key=lambda end: self._distance(port, end)))
        else:
            fixed = self._port_title(drag.fixed)
            view.message.emit(f"No port of the graph fits {fixed}. Tab adds a node for it.")

    def _press_at_end(self, key: Qt.Key, drag: DragWire) -> bool:
        port = self._port
        if key == Qt.Key.Key_Escape:
            self._drop()
            if port is not None:
                self._choose_port(port)
        elif key in DIRECTIONS and self._end is not None:
            self._aim(self._next(self._end, key))
        elif key in _ENTER and self._end is not None:
            drag.finish()  # an edit, which ends this mode
        elif key in _DELETE and port is not None and port.side == "input":
            self._drop()
            self._remove(port)
        elif key == Qt.Key.Key_Tab:
            fixed = drag.fixed
            at = self._view.mapFromScene(self._point(self._end or fixed))
            self._view.cancel_gesture()
            self._view.finder.open_for_wire(fixed, QPointF(at))
        else:
            return key not in DIRECTIONS
        return True

    def _aim(self, end: End) -> None:
        assert self._drag is not None
        self._mark(self._end, False)
        self._end = end
        self._mark(end, True)
        self._drag.aim(end)
        place = self._ends.index(end) + 1
        self._say(f"{self._words(end)}, {place} of {len(self._ends)} that fit", END_KEYS)

    def _drop(self) -> None:
        """Let go of the wire without an edit."""
        self._mark(self._end, False)
        drag, self._drag, self._end = self._drag, None, None
        if drag is not None:
            drag.cancel()

    # ------------------------------------------------------------ places and words

    def _next(self, now: End, key: Qt.Key) -> End:
        """The nearest end in a direction; where there is none, the one before or after, so that every end can be
        reached."""
        step = sum(DIRECTIONS[key])
        after = self._ends[(self._ends.index(now) + step) % len(self._ends)]
        return self._nearest(self._ends, now, key) or after

    def _nearest(self, ends: Sequence[End], now: End, key: Qt.Key) -> End | None:
        """The nearest of these ports in a direction."""
        others = ((end, self._point(end)) for end in ends if end != now)
        return nearest(key, self._point(now), others)

    def _point(self, end: End) -> QPointF:
        return self._view.graph_scene.nodes[end.node].port_point(end.side, end.port)

    def _place_of(self, end: End) -> tuple[float, float]:
        point = self._point(end)
        return point.x(), point.y()

    def _distance(self, start: End, end: End) -> tuple[bool, float]:
        """Free ports first, then the nearest."""
        gap = self._point(end) - self._point(start)
        return bool(self._wires(end)), abs(gap.x()) + abs(gap.y())

    def _wires(self, port: End) -> tuple[Wire, ...]:
        graph = self._view.document.graph
        if port.side == "input":
            found = graph.wire_into(port.node, port.port)
            return (found,) if found else ()
        return tuple(w for w in graph.wires if (w.source, w.source_port) == (port.node, port.port))

    def _port_title(self, end: End) -> str:
        port = self._view.graph_scene.nodes[end.node].content.port(end.side, end.port)
        return port.title if port else end.port

    def _words(self, end: End) -> str:
        """``Train, input Dataset, connected to My data``."""
        node = self._view.graph_scene.nodes[end.node].content.title
        wires = self._wires(end)
        if not wires:
            joined = "not connected"
        elif len(wires) > 1:
            joined = f"{len(wires)} wires"
        else:
            other = wires[0].source if end.side == "input" else wires[0].target
            joined = f"connected to {self._view.graph_scene.nodes[other].content.title}"
        return f"{node}, {end.side} {self._port_title(end)}, {joined}"

    def _say(self, words: str, how: str) -> None:
        self._view.message.emit(f"{words}. {how}")
        tips.announce(self._view, words)

    def _mark(self, end: End | None, focused: bool) -> None:
        item = self._view.graph_scene.nodes.get(end.node) if end is not None else None
        if item is None or end is None:
            return
        item.mark("focused_port", (end.side, end.port) if focused else None)
        if focused:
            place = QRectF(self._point(end), self._point(end)).adjusted(-1, -1, 1, 1)
            self._view.ensureVisible(place, _ROOM_PX, _ROOM_PX)
