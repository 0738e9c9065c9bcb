"""The commands of the canvas, and how they are reached: actions, keys, context menu.

``Commands`` uses the editor (document), the camera and the selection, and paints nothing. ``SPECS``
names the commands that are actions, with text, icon, keys and tip: for menus, tool bars and the
keyboard. Their keys act while the canvas has the focus; Undo and Redo act in the entire window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QPointF, QRectF, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QMenu

from ui.canvas import camera, layout
from ui.canvas.directions import DIRECTIONS, nearest
from ui.canvas.editing import piece_in
from ui.style import icons, keys

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


_WINDOW_WIDE = ("undo", "redo")
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_TABS = (Qt.Key.Key_Tab, Qt.Key.Key_Backtab)
_COMMANDS = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier
_NODE = ("rename", "duplicate", "connect_ports", "", "cut", "copy", "paste", "", "frame", "delete")
_WIRE = ("delete",)


class Commands:
    """The commands of one canvas; every method is one command."""

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
        self._view.editor.delete(self._view.selected_ids(), verb="Cut")

    def copy(self) -> None:
        """Put the selected nodes on the clipboard as project-file data."""
        ids = self._view.selected_ids()
        if ids:
            # Text: a QMimeData made in Python that is left on the clipboard crashes Qt at its end.
            QGuiApplication.clipboard().setText(self._view.editor.copied(ids))

    def paste(self) -> None:
        """Put the clipboard's nodes at the cursor and select them."""
        piece = piece_in(QGuiApplication.clipboard().text())
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

    def connect_ports(self) -> None:
        """Choose a port of the current node by keyboard, and connect it."""
        self._view.begin_key_wires()

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
        across, down = DIRECTIONS[key]
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
        others = ((i.id, i.scene_card().center()) for i in nodes.values() if i is not now)
        found = nearest(key, now.scene_card().center(), others)
        if found is not None:
            self._go_to(found)

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


@dataclass(frozen=True)
class Spec:
    """One action."""

    name: str
    text: str
    icon: str
    keys: tuple[str, ...]
    tip: str
    needs: str = ""  # "nodes": something is selected; "one": exactly one node; "any": not empty


SPECS = (
    Spec("undo", "Undo", "undo-2", ("Ctrl+Z",), "Undo the last change"),
    Spec("redo", "Redo", "redo-2", ("Ctrl+Shift+Z", "Ctrl+Y"), "Redo the last undone change"),
    Spec(
        "cut", "Cut", "scissors", ("Ctrl+X",), "Move the selected nodes to the clipboard", "nodes"
    ),
    Spec("copy", "Copy", "copy", ("Ctrl+C",), "Copy the selected nodes and their wires", "nodes"),
    Spec("paste", "Paste", "clipboard-paste", ("Ctrl+V",), "Paste nodes at the cursor"),
    Spec(
        "duplicate",
        "Duplicate",
        "copy-plus",
        ("Ctrl+D",),
        "Duplicate the selected nodes",
        "nodes",
    ),
    Spec("delete", "Delete", "trash-2", ("Del", "Backspace"), "Delete the selection", "selection"),
    Spec("rename", "Rename", "pencil", ("F2",), "Rename the node", "one"),
    Spec(
        "connect_ports",
        "Connect…",
        "link",
        ("C",),
        "Choose a port of the node with the arrow keys, and connect it",
        "one",
    ),
    Spec(
        "select_all",
        "Select All",
        "square-dashed-mouse-pointer",
        ("Ctrl+A",),
        "Select all nodes",
        "any",
    ),
    Spec("palette", "Add Node…", "plus", ("Tab",), "Search for a node to add at the cursor"),
    Spec("zoom_in", "Zoom In", "zoom-in", ("Ctrl++", "Ctrl+="), "Enlarge the graph"),
    Spec("zoom_out", "Zoom Out", "zoom-out", ("Ctrl+-",), "Shrink the graph"),
    Spec("zoom_reset", "Actual Size", "search", ("Ctrl+0",), "Show the graph at 100 %"),
    Spec("fit", "Fit All", "maximize", ("Home", "Shift+1"), "Show the entire graph", "any"),
    Spec("frame", "Frame Selection", "scan", ("F",), "Show the selected nodes", "nodes"),
)


def make_actions(view: CanvasView) -> dict[str, QAction]:
    """All actions by name; children of the view."""
    made: dict[str, QAction] = {}
    for spec in SPECS:
        action = QAction(spec.text, view)
        action.setProperty("plain-text", spec.text)
        action.setShortcuts(keys.keys_for(spec.name, spec.keys))
        action.setShortcutContext(
            Qt.ShortcutContext.WindowShortcut
            if spec.name in _WINDOW_WIDE
            else Qt.ShortcutContext.WidgetShortcut
        )
        action.triggered.connect(getattr(view.commands, spec.name))
        icons.put(action, spec.icon)
        view.addAction(action)
        made[spec.name] = action
    update_actions(view, made)
    return made


def update_actions(view: CanvasView, actions: dict[str, QAction]) -> None:
    """Enable what can be done now; Undo and Redo name their step."""
    count = len(view.selected_ids())
    met = {
        "": True,
        "nodes": count > 0,
        "one": count == 1,
        "any": bool(view.document.graph.nodes),
        "selection": count > 0 or bool(view.selected_wires()),
    }
    for spec in SPECS:
        action = actions[spec.name]
        action.setEnabled(met[spec.needs])
        shortcuts = " or ".join(keys.text_of(key) for key in action.shortcuts())
        action.setToolTip(f"{spec.tip} ({shortcuts})")
        action.setStatusTip(spec.tip)
    for name, label in (("undo", view.document.undo_label), ("redo", view.document.redo_label)):
        word = name.capitalize()
        actions[name].setText(f"{word} {label}" if label else word)
        actions[name].setEnabled(label is not None)


def press_key(view: CanvasView, event: QKeyEvent) -> bool:
    """Handle a key without an action (Esc, Space, arrows, Ctrl+Tab, Enter); False if the canvas does
    not use it."""
    if view.key_wires is not None:
        if view.key_wires.press(event):
            return True
        view.cancel_gesture()
        view.announce_current()
        if event.key() == Qt.Key.Key_Escape:
            return True
    key, modifiers = Qt.Key(event.key()), event.modifiers()
    ctrl = bool(modifiers & _COMMANDS)
    if keys.opens_menu(key, modifiers):
        at = view.cursor_view()
        open_menu(view, at, view.viewport().mapToGlobal(at.toPoint()), by_key=True)
    elif key == Qt.Key.Key_Escape:
        if not view.cancel_gesture():
            view.select(())
    elif key == Qt.Key.Key_Space and not ctrl:
        if not event.isAutoRepeat():
            view.hold_hand(True)
    elif key in DIRECTIONS and not ctrl:
        _arrow(view, key, modifiers)
    elif key in _TABS and modifiers & keys.control():
        view.commands.step(-1 if key == Qt.Key.Key_Backtab else 1)
    elif key in _ENTER and not ctrl and view.current_id() is not None:
        view.node_activated.emit(view.current_id())
    else:
        return False
    return True


def _arrow(view: CanvasView, key: Qt.Key, modifiers: Qt.KeyboardModifier) -> None:
    """Alt walks from node to node; otherwise the selection is nudged, ten steps with Shift."""
    if modifiers & Qt.KeyboardModifier.AltModifier:
        view.commands.walk(key)
    elif view.selected_ids():
        view.commands.nudge(key, bool(modifiers & Qt.KeyboardModifier.ShiftModifier))


def open_menu(view: CanvasView, at: QPointF, on_screen: QPoint, by_key: bool) -> QMenu | None:
    """Open the context menu of the node or wire at ``at`` (viewport pixels), or by key that of the
    current node; on empty canvas, the search palette."""
    scene = view.graph_scene
    point = view.camera.to_scene(at)
    node = scene.nodes.get(view.current_id() or "") if by_key else scene.node_at(point)
    wire = scene.wire_at(point) if node is None else None
    if node is not None and not node.selected:
        view.select((node.id,))
    elif wire is not None:
        view.select((), (wire.wire,))
    if node is None and wire is None:
        view.finder.open(at)
        return None
    menu = QMenu(view)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for name in _NODE if node is not None else _WIRE:
        if name:
            menu.addAction(view.actions()[name])
        else:
            menu.addSeparator()
    if by_key and node is not None:
        on_screen = view.viewport().mapToGlobal(view.node_rect_in_view(node.id).center())
    menu.popup(on_screen)
    return menu
