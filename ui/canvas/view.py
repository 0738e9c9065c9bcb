"""The canvas: shows a document's graph and turns gestures into edits of it.

What is drawn is a function of the document's graph and of view state (selection, zoom, problems,
run state). Mouse gestures are objects of their own, commands are in ``commands``, edits in
``editing``, painting in the items. This class only connects them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QAction,
    QContextMenuEvent,
    QDragEnterEvent,
    QDragMoveEvent,
    QDropEvent,
    QFocusEvent,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
)
from PySide6.QtWidgets import QToolTip, QWidget
from shiboken6 import isValid

from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.graph import Wire
from studio.graph.registry import Registry
from studio.runs.progress import Progress
from studio.runs.status import NodeView

# Import cycle: most of these are given the view, and name its class in type hints only.
from ui.canvas import background, dropping, layout, text, tips
from ui.canvas.commands import Commands, make_actions, open_menu, press_key, update_actions
from ui.canvas.editing import Editor
from ui.canvas.finder import Finder
from ui.canvas.gestures import BoxSelect, DragNodes, DragWire, Gesture, toggles
from ui.canvas.key_wires import KeyWires
from ui.canvas.node_paint import badge_rect
from ui.canvas.offer_card import OfferCard
from ui.canvas.pointer import PointerView
from ui.canvas.scene import GraphScene
from ui.canvas.title_edit import TitleEdit
from ui.style import theme
from ui.style.widgets import plain_tip


class CanvasView(PointerView):
    """The graph of one document, for mouse and keyboard.

    ``room_changed``: another size, or the canvas became empty or is empty no more. ``down_pressed``: the Down key
    on an empty canvas."""

    selection_changed = Signal(object)
    node_activated = Signal(object)
    problem_activated = Signal(object)
    message = Signal(object)
    files_dropped = Signal(object)
    data_dropped = Signal(object)
    adapter_dropped = Signal(object)
    key_wires: KeyWires | None = None  # of the class: Qt sends events before the constructor ends
    room_changed = Signal()
    down_pressed = Signal()

    def __init__(
        self, document: Document, registry: Registry, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.document, self.registry = document, registry
        self._selected: tuple[str, ...] = ()
        self._wires: tuple[Wire, ...] = ()
        self._current: str | None = None
        self.hint_room: Callable[[], QRect] = lambda: self.viewport().rect()
        self.graph_scene = GraphScene(registry, self)
        self.graph_scene.project_dir = lambda: document.project_dir
        self.setScene(self.graph_scene)
        self.setAccessibleName("Canvas")
        self.viewport().setAccessibleName("Canvas")
        self.setAcceptDrops(True)
        self.setMinimumSize(200, 150)
        self.editor = Editor(document, registry)
        self.commands = Commands(self)
        self.titles = TitleEdit(self)
        self.finder = Finder(self)
        self.offers = OfferCard(self)
        self.ask_about_data: Callable[[Sequence[Path], QPointF], object] | None = None
        self._actions = make_actions(self)
        theme.changed.connect(self._on_theme)
        self._stop_listening = _follow(document, self)
        self.sync()
        self.centerOn(0, 0)

    # Interface. ---------------------------------------------------------------------------

    def actions(self) -> dict[str, QAction]:  # type: ignore[override]
        """The canvas's actions by name (in place of Qt's list)."""
        return self._actions

    def set_problems(self, problems: Iterable[Problem]) -> None:
        """Badges on the nodes that the problems belong to."""
        self.graph_scene.set_problems(problems)

    def set_run_state(
        self, views: Mapping[str, NodeView] | None, progress: Progress | None = None
    ) -> None:
        """The states of a run on its nodes, and its progress; ``None`` shows no run."""
        self.graph_scene.set_run_state(views, progress)

    def fit_all(self) -> None:
        """Show the entire graph."""
        self.commands.fit()

    def zoom_to(self, scale: float) -> None:
        """Take a scale; 1.0 is 100 %."""
        self.camera.zoom_to(scale)

    def add_node(self, type_id: str, scene_pos: QPointF | None = None) -> str:
        """Add a node with its corner at ``scene_pos`` (in the middle if ``None``); select it."""
        if scene_pos is None:
            middle = self.camera.to_scene(QRectF(self.viewport().rect()).center())
            scene_pos = middle - QPointF(layout.WIDTH / 2, 50)
        node_id = self.editor.add(type_id, (scene_pos.x(), scene_pos.y()))
        self.select((node_id,))
        return node_id

    def add_node_at_center(self, type_id: str) -> str:
        """Add a node in the middle of what is shown."""
        return self.add_node(type_id)

    def node_rect_in_view(self, node_id: str) -> QRect:
        """A node's card in viewport pixels."""
        card = self.graph_scene.nodes[node_id].scene_card()
        return self.viewportTransform().mapRect(card).toRect()

    # Selection is view state. ---------------------------------------------------------------

    def selected_ids(self) -> tuple[str, ...]:
        """Ids of the selected nodes in the order of selection."""
        return self._selected

    def selected_wires(self) -> tuple[Wire, ...]:
        """The selected wires."""
        return self._wires

    def current_id(self) -> str | None:
        """The node that the keyboard moves from: the last one selected."""
        return self._current

    def select(self, ids: Iterable[str], wires: Iterable[Wire] = ()) -> None:
        """Select exactly these nodes and wires; what does not exist is left out."""
        if self.key_wires is not None:
            self.cancel_gesture()
        known = tuple(dict.fromkeys(i for i in ids if i in self.graph_scene.nodes))
        changed = known != self._selected
        self._selected = known
        self._wires = tuple(w for w in wires if w in self.graph_scene.wires)
        self.make_current(known[-1] if known else None)
        if changed:
            self.selection_changed.emit(known)

    def toggle(self, node_id: str) -> None:
        """Add a node to the selection or take it out."""
        left = tuple(i for i in self._selected if i != node_id)
        self.select(left if node_id in self._selected else (*self._selected, node_id))

    def make_current(self, node_id: str | None) -> None:
        """Make this node the current one for the keyboard, and show the selection."""
        self._current = node_id
        chosen = set(self._selected)
        for item in self.graph_scene.nodes.values():
            item.set_selected(item.id in chosen, item.id == node_id)
        for wire, line in self.graph_scene.wires.items():
            line.mark("selected", wire in self._wires)
        update_actions(self, self._actions)
        self.announce_current()

    def announce_current(self) -> None:
        """Describe the current node for screen readers."""
        now = self.graph_scene.nodes.get(self._current or "")
        ids = self.document.graph.ids()
        place = ids.index(now.id) + 1 if now else 0
        if now is None:
            tips.announce(self, tips.overview(self.graph_scene))
        else:
            tips.announce(self, f"{tips.spoken(now)}, {place} of {len(ids)}")

    # Document, theme, ground. ---------------------------------------------------------------

    def sync(self) -> None:
        """The document changed: show it, and keep selected what is still there."""
        self.cancel_gesture()
        was_empty = not self.graph_scene.nodes
        self.graph_scene.sync(self.document.graph)
        self.select(self._selected, self._wires)
        if was_empty != (not self.graph_scene.nodes):
            self.viewport().update()
            self.room_changed.emit()

    def _on_theme(self) -> None:
        self.graph_scene.refresh()
        self.viewport().update()

    def drawBackground(self, painter: QPainter, rect: QRectF | QRect) -> None:
        """Qt: the grid; the level of detail for all that is drawn on it."""
        self.graph_scene.detail = self.camera.detail
        self.graph_scene.grown = text.growth(self.camera.scale)
        self.graph_scene.title_px = text.title_size(self.camera.scale)
        background.paint_grid(painter, QRectF(rect), self.viewportTransform())

    def drawForeground(self, painter: QPainter, rect: QRectF | QRect) -> None:
        """Qt: the hint on an empty canvas."""
        if not self.graph_scene.nodes:
            background.paint_hint(painter, self.hint_room())

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Qt: the hint does not scroll, so an empty canvas is repainted completely."""
        super().scrollContentsBy(dx, dy)
        if self.scene() is not None and not self.graph_scene.nodes:
            self.viewport().update()

    # Mouse. -----------------------------------------------------------------------------------

    def gesture_for(self, event: QMouseEvent) -> Gesture | None:
        """What a press of the left button begins."""
        at, modifiers = event.position(), event.modifiers()
        point = self.camera.to_scene(at)
        port = self.graph_scene.port_at(point)
        if port is not None:
            return DragWire(self, at, *port)
        node = self.graph_scene.node_at(point)
        if node is not None:
            return DragNodes(self, at, node, modifiers)
        wire = self.graph_scene.wire_at(point)
        if wire is None:
            return BoxSelect(self, at, modifiers)
        if toggles(modifiers):
            rest = tuple(w for w in self._wires if w != wire.wire)
            self.select(self._selected, rest if wire.selected else (*rest, wire.wire))
        else:
            self.select((), (wire.wire,))
        return None

    def node_clicked(self, node_id: str, at: QPointF) -> None:
        """A click on a node's badge leads to its first problem, or warning."""
        item = self.graph_scene.nodes.get(node_id)
        if item is None or not item.problems:
            return
        if badge_rect(item).contains(self.camera.to_scene(at) - item.pos()):
            first = next((p for p in item.problems if p.blocks), item.problems[0])
            self.problem_activated.emit(first)

    def hover(self, at: QPointF | None) -> None:
        """Show which port or wire is under the mouse."""
        point = self.camera.to_scene(at) if at is not None else None
        port = self.graph_scene.port_at(point) if point is not None else None
        free = point is not None and port is None and self.graph_scene.node_at(point) is None
        wire = self.graph_scene.wire_at(point) if point is not None and free else None
        self.graph_scene.mark_hovered(port, wire)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Qt: opens a node, or the search palette on empty canvas."""
        point = self.camera.to_scene(event.position())
        node = self.graph_scene.node_at(point)
        if event.button() != Qt.MouseButton.LeftButton or self.graph_scene.port_at(point):
            self.mousePressEvent(event)
        elif node is not None:
            self.node_activated.emit(node.id)
        elif self.graph_scene.wire_at(point) is None:
            self.finder.open(event.position())

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Qt: a menu on a node or wire, the search palette elsewhere."""
        self.cancel_gesture()
        by_key = event.reason() == QContextMenuEvent.Reason.Keyboard
        at = self.cursor_view() if by_key else QPointF(event.pos())
        open_menu(self, at, event.globalPos(), by_key)

    def viewportEvent(self, event: QEvent) -> bool:
        """Qt: tooltips."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            point = self.camera.to_scene(QPointF(event.pos()))
            text = tips.tip_at(self.graph_scene, point) if self.gesture is None else ""
            QToolTip.showText(event.globalPos(), plain_tip(text), self)
            return True
        done = super().viewportEvent(event)
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Show):
            self.room_changed.emit()
        return done

    # Keyboard. --------------------------------------------------------------------------------

    def begin_key_wires(self) -> None:
        """Put the focus on a port of the current node."""
        self.cancel_gesture()
        if self._current is not None:
            wires = KeyWires(self, self._current)
            self.key_wires = wires if wires.start() else None

    def cancel_gesture(self) -> bool:
        """Cancel the current gesture of mouse or keyboard; returns whether there was one."""
        wires, self.key_wires = self.key_wires, None
        if wires is not None:
            wires.cancel()
        return super().cancel_gesture() or wires is not None

    def event(self, event: QEvent) -> bool:
        """Qt: while a port has the focus, keys belong to it before they are shortcuts."""
        if self.key_wires is None or not isinstance(event, QKeyEvent):
            return super().event(event)
        if event.type() == QEvent.Type.ShortcutOverride and KeyWires.uses(event):
            event.accept()
            return True
        if event.type() == QEvent.Type.KeyPress:
            self.keyPressEvent(event)  # also Tab, which Qt would take for the next widget
            return True
        return super().event(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Qt: the focus goes elsewhere, and leaves the ports."""
        if self.key_wires is not None:
            self.cancel_gesture()
        super().focusOutEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: the mouse ends what the keyboard began."""
        if self.key_wires is not None:
            self.cancel_gesture()
        super().mousePressEvent(event)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Qt: Tab searches for a node, so only Shift+Tab leaves the canvas."""
        return False if forward else super().focusNextPrevChild(forward)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: keys that are not actions of a menu."""
        if event.key() == Qt.Key.Key_Down and not self.graph_scene.nodes:
            self.down_pressed.emit()
        elif not press_key(self, event):
            event.ignore()

    # Drag and drop. ---------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Qt: accept what could become a node."""
        if dropping.suits(event.mimeData()):
            event.acceptProposedAction()

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Qt: as on entering."""
        if dropping.suits(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Qt: add the node, or hand the files on."""
        if dropping.take(self, event.mimeData(), self.camera.to_scene(event.position())):
            event.acceptProposedAction()
            if not self.offers.has_focus():
                self.setFocus(Qt.FocusReason.OtherFocusReason)


def _follow(document: Document, view: CanvasView) -> Any:
    """Connect a view to a document that may outlive it."""
    found = weakref.ref(view)

    def tell() -> None:
        alive = found()
        if alive is not None and isValid(alive):
            alive.sync()
        else:
            stop()

    stop = document.listen(tell)
    return stop
