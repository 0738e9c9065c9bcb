"""What the canvas's menus and keys do; every method is one command.

They join the editor (document), the camera and the selection; none of them paints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QGuiApplication

from ui.canvas import camera, layout
from ui.canvas.editing import piece_in

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

_DIRECTIONS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


class Commands:
    """The commands of one canvas."""

    def __init__(self, view: CanvasView) -> None:
        self._view = view

    def undo(self) -> None:
        """Take back the last step."""
        self._view.document.undo()

    def redo(self) -> None:
        """Bring back what was undone."""
        self._view.document.redo()

    def cut(self) -> None:
        """Copy, then delete."""
        self.copy()
        self._view.editor.delete(self._view.selected_ids())

    def copy(self) -> None:
        """Put the selected nodes on the clipboard as project-file data."""
        ids = self._view.selected_ids()
        if ids:
            QGuiApplication.clipboard().setMimeData(self._view.editor.copied(ids))

    def paste(self) -> None:
        """Put the clipboard's nodes at the cursor and select them."""
        piece = piece_in(QGuiApplication.clipboard().mimeData())
        if piece is None:
            self._view.message.emit("The clipboard contains no nodes.")
            return
        at = self._view.cursor_scene()
        self._view.select(self._view.editor.paste(piece, (at.x(), at.y())))

    def duplicate(self) -> None:
        """Copy the selected nodes next to the originals and select the copies."""
        self._view.select(self._view.editor.duplicate(self._view.selected_ids()))

    def delete(self) -> None:
        """Delete the selected nodes and wires."""
        ids, wires = self._view.selected_ids(), self._view.selected_wires()
        if ids or wires:
            self._view.editor.delete(ids, wires)

    def rename(self) -> None:
        """Edit the title of the selected node in place."""
        if len(self._view.selected_ids()) == 1:
            self._view.titles.edit(self._view.selected_ids()[0])

    def select_all(self) -> None:
        """Select every node."""
        self._view.select(self._view.document.graph.ids())

    def palette(self) -> None:
        """Open the search palette at the cursor."""
        self._view.finder.open(self._view.cursor_view())

    def zoom_in(self) -> None:
        """Show the graph larger."""
        self._view.camera.zoom_by(camera.STEP)

    def zoom_out(self) -> None:
        """Show the graph smaller."""
        self._view.camera.zoom_by(1 / camera.STEP)

    def zoom_reset(self) -> None:
        """Show the graph at 100 %."""
        self._view.camera.zoom_to(1.0)

    def fit(self) -> None:
        """Show the entire graph."""
        rect = self._view.graph_scene.content_rect()
        self._view.camera.fit(rect)
        self._view.camera.fitted = not rect.isEmpty()

    def frame(self) -> None:
        """Show the selected nodes, or everything when none is."""
        ids = self._view.selected_ids()
        self._view.camera.fit(self._view.graph_scene.content_rect(ids or None), most=1.5)

    def nudge(self, key: Qt.Key, far: bool) -> None:
        """Shift the selected nodes by one step of the grid, or ten."""
        across, down = _DIRECTIONS[key]
        step = layout.GRID * (10 if far else 1)
        self._view.editor.nudge(self._view.selected_ids(), across * step, down * step)

    def step(self, by: int) -> None:
        """Select the next or previous node in the order of drawing."""
        ids = self._view.document.graph.ids()
        if not ids:
            return
        now = self._view.current_id()
        start = ids.index(now) if now in ids else (-1 if by > 0 else 0)
        self._go_to(ids[(start + by) % len(ids)])

    def walk(self, key: Qt.Key) -> None:
        """Select the nearest node in a direction."""
        nodes = self._view.graph_scene.nodes
        now = nodes.get(self._view.current_id() or "")
        if now is None:
            self.step(1)
            return
        across, down = _DIRECTIONS[key]
        here = now.scene_card().center()
        best: tuple[float, str] | None = None
        for item in nodes.values():
            gap = item.scene_card().center() - here
            along = gap.x() * across + gap.y() * down
            aside = abs(gap.x() * down) + abs(gap.y() * across)
            if item is not now and along > 1 and (best is None or along + 2 * aside < best[0]):
                best = (along + 2 * aside, item.id)
        if best is not None:
            self._go_to(best[1])

    def _go_to(self, node_id: str) -> None:
        self._view.select((node_id,))
        card = self._view.graph_scene.nodes[node_id].scene_card()
        room = QRectF(self._view.viewport().rect())
        shown = QRectF(
            self._view.camera.to_scene(room.topLeft()),
            self._view.camera.to_scene(room.bottomRight()),
        )
        if not shown.contains(card):
            self._view.centerOn(QPointF(card.center()))
