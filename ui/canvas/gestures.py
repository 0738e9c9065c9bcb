"""One object per mouse gesture: pan, box select, drag nodes (wires are in ``wire_gesture``).

A gesture is created on press, receives every move, and ends with ``release`` or ``cancel`` (Esc).
Only ``release`` may edit the document, and it does so once: a drag is one undo step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QGraphicsRectItem

from ui.canvas import layout
from ui.canvas.camera import Camera
from ui.canvas.node_item import NodeItem
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
        elif self._was_selected and not toggles(modifiers):
            self.view.select((self._id,))

    def cancel(self) -> None:
        """Put the nodes back."""
        self.view.graph_scene.place(self._from)
