"""Adding nodes by search: opens the palette at the mouse and places what is chosen.

With a loose wire it offers only the types that fit, and connects the one that is chosen. The palette is a small popup
for the keyboard alone: Up and Down choose, Enter takes, Esc closes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QGuiApplication, QHideEvent, QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from studio.graph.graph import Node
from studio.graph.node_type import NodeType
from studio.graph.schema import Settings
from ui.canvas import layout
from ui.canvas.content import Side, content_of
from ui.canvas.dropping import held_at_header
from ui.canvas.fuzzy import ranked
from ui.canvas.palette import CATEGORIES
from ui.canvas.wire_item import DraftWire
from ui.canvas.wire_rules import End, matching_ports
from ui.style import icons, theme

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

WIDTH_PX = 300
ROW_PX = 32
MAX_ROWS = 9
_TYPE_ID = Qt.ItemDataRole.UserRole
_ROWS_BY_KEY: dict[int, int] = {
    Qt.Key.Key_Up: -1,
    Qt.Key.Key_Down: 1,
    Qt.Key.Key_PageUp: -MAX_ROWS,
    Qt.Key.Key_PageDown: MAX_ROWS,
}


class Finder(QObject):
    """The search palette of one canvas."""

    def __init__(self, view: CanvasView) -> None:
        super().__init__(view)
        self._view = view
        self._at = QPointF()
        self._end: End | None = None
        self._draft: DraftWire | None = None
        self.popup = SearchPopup(view)
        self.popup.chosen.connect(self._add)
        self.popup.closed.connect(self._remove_draft)

    def open(self, at: QPointF) -> None:
        """Offer every type; the chosen one is added at ``at`` (viewport pixels)."""
        self._end = None
        self._show(at, self._view.registry.nodes.values(), "")

    def open_for_wire(self, end: End, at: QPointF, draft: DraftWire | None = None) -> None:
        """Offer the types that a loose wire from ``end`` could go to; ``draft`` remains visible
        until one is chosen."""
        start = self._start(end)
        types = self._view.registry.nodes.values()
        fitting = [t for t in types if matching_ports(start, end, t)]
        if start is not None:
            fitting.sort(key=lambda t: _distance(start, end, t))
        port = self._view.graph_scene.nodes[end.node].content.port(end.side, end.port)
        name = port.title if port else end.port
        out = end.side == "output"
        if not fitting:
            self._view.message.emit(f"No node {'accepts' if out else 'provides'} “{name}”.")
            return
        self._end = end
        if draft is not None:
            self._draft = draft
            self._view.graph_scene.addItem(draft)
        self._show(at, fitting, f"Connect {name} to" if out else f"Connect {name} from")

    def _remove_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None and draft.scene() is self._view.graph_scene:
            self._view.graph_scene.removeItem(draft)

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


def _distance(
    start: NodeType[Settings], end: End, other: NodeType[Settings]
) -> tuple[bool, int, bool, bool]:
    """How far a node type is from being the usual one at a wire: the neighbour in the data flow
    first, with the type that the input is mainly for; what joins several of them later, and another node of the
    same type last."""
    flow = {category: place for place, category in enumerate(CATEGORIES)}
    steps = abs(flow.get(other.category, len(flow)) - flow.get(start.category, len(flow)))
    name = matching_ports(start, end, other)[0]
    ends = (start.output(end.port), other.input(name))
    out, into = ends if end.side == "output" else (other.output(name), start.input(end.port))
    side_use = out is not None and into is not None and out.type != into.type
    joins = len({port.types for port in other.inputs}) < len(other.inputs)
    return other is start, steps, side_use, joins


class SearchPopup(QFrame):
    """Lists node types and finds them by a few letters."""

    chosen = Signal(object)
    closed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("search")
        self.setFixedWidth(WIDTH_PX)
        self._types: tuple[NodeType[Settings], ...] = ()
        self.title = QLabel(self)
        self.line = QLineEdit(self)
        self.line.setClearButtonEnabled(True)
        self.line.setPlaceholderText("Search nodes")
        self.line.setAccessibleName("Search nodes")
        self.list = QListWidget(self)
        self.list.setAccessibleName("Node types")
        self.list.setIconSize(QSize(18, 18))
        self.list.setUniformItemSizes(True)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        box = QVBoxLayout(self)
        box.setContentsMargins(8, 8, 8, 8)
        box.setSpacing(6)
        for widget in (self.title, self.line, self.list):
            box.addWidget(widget)
        self.line.textChanged.connect(self._fill)
        self.line.returnPressed.connect(self._take)
        self.line.installEventFilter(self)
        self.list.itemClicked.connect(self._take)

    def open_at(self, at: QPoint, types: Iterable[NodeType[Settings]], title: str = "") -> None:
        """Show these types at a point of the screen; ``title`` describes the search."""
        self._types = tuple(types)
        self.title.setText(title)
        self.title.setVisible(bool(title))
        self.line.clear()
        self._fill()
        self.adjustSize()
        screen = QGuiApplication.screenAt(at) or QGuiApplication.primaryScreen()
        room = screen.availableGeometry()
        x = min(at.x(), room.right() - self.width())
        y = min(at.y(), room.bottom() - self.height())
        self.move(max(room.left(), x), max(room.top(), y))
        self.show()
        self.line.setFocus(Qt.FocusReason.PopupFocusReason)

    def shown(self) -> list[str]:
        """The type ids that are listed now, best first."""
        return [self.list.item(row).data(_TYPE_ID) for row in range(self.list.count())]

    def _fill(self) -> None:
        self.list.clear()
        words = ranked(self.line.text(), self._types, lambda t: (t.title, f"{t.category} {t.help}"))
        for node_type in words:
            tint = theme.colors().category(node_type.category)
            row = QListWidgetItem(icons.icon(icons.known(node_type.icon), tint), node_type.title)
            row.setData(_TYPE_ID, node_type.id)
            row.setToolTip(node_type.help)
            row.setSizeHint(QSize(0, ROW_PX))
            self.list.addItem(row)
        if not words:
            row = QListWidgetItem("No matches")
            row.setFlags(Qt.ItemFlag.NoItemFlags)
            row.setSizeHint(QSize(0, ROW_PX))
            self.list.addItem(row)
        self.list.setCurrentRow(0)
        self.list.setFixedHeight(ROW_PX * min(MAX_ROWS, self.list.count()) + 2)
        self.adjustSize()

    def _take(self) -> None:
        item = self.list.currentItem()
        type_id = item.data(_TYPE_ID) if item is not None else None
        if type_id is not None:
            self.hide()
            self.chosen.emit(type_id)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: the input keeps the focus; navigation keys go to the list."""
        if watched is self.line and event.type() == QEvent.Type.KeyPress:
            by = _ROWS_BY_KEY.get(event.key()) if isinstance(event, QKeyEvent) else None
            if by is not None:
                self._step(by)
                return True
        return super().eventFilter(watched, event)

    def _step(self, by: int) -> None:
        rows = self.list.count()
        row = self.list.currentRow() + by
        self.list.setCurrentRow(row % rows if abs(by) == 1 else min(rows - 1, max(0, row)))

    def hideEvent(self, event: QHideEvent) -> None:
        """Qt: notify the canvas, which may hold a loose wire for this choice."""
        super().hideEvent(event)
        self.closed.emit()
