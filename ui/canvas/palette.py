"""The list of node types beside the canvas: by category, to drag onto it or to add with Enter.

It only names types: who adds the node is connected to ``node_chosen``. It edits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QLineEdit, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from studio.graph.node_type import NodeType
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from ui.canvas.fuzzy import ranked
from ui.style import icons, theme
from ui.style.widgets import child_items, top_items

MIME = "application/x-lora-studio-node-type"
ROW_PX = 30
_AROUND_TITLE_PX, _MARGIN_PX = 56, 8
CATEGORIES = ("Data", "Model", "Training", "Result")
_TYPE_ID = Qt.ItemDataRole.UserRole


class _Tree(QTreeWidget):
    """A tree whose rows are dragged as node types."""

    entered = Signal(object)

    def mimeTypes(self) -> list[str]:
        """Qt: what a drag carries."""
        return [MIME]

    def mimeData(self, items: Sequence[QTreeWidgetItem]) -> QMimeData:
        """Qt: the dragged type's id."""
        data = QMimeData()
        if items:
            data.setData(MIME, str(items[0].data(0, _TYPE_ID)).encode())
        return data

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Enter adds the type of the current row."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.entered.emit(self.currentItem())
            return
        super().keyPressEvent(event)


class NodePalette(QWidget):
    """All node types. ``node_chosen(type_id)``: double-clicked, or Enter was pressed on it."""

    node_chosen = Signal(object)

    def __init__(self, registry: Registry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._registry = registry
        self.line = QLineEdit(self)
        self.line.setPlaceholderText("Search nodes")
        self.line.setAccessibleName("Search nodes")
        self.line.setClearButtonEnabled(True)
        self.tree = _Tree(self)
        self.tree.setAccessibleName("Node types")
        self.tree.setHeaderHidden(True)
        self.tree.setIndentation(8)
        self.tree.setRootIsDecorated(False)
        self.tree.setIconSize(QSize(18, 18))
        self.tree.setDragEnabled(True)
        self.tree.setDragDropMode(QTreeWidget.DragDropMode.DragOnly)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(4 * (_MARGIN_PX,)))
        box.setSpacing(6)
        box.addWidget(self.line)
        box.addWidget(self.tree)
        self.line.textChanged.connect(self._fill)
        self.line.returnPressed.connect(self._take_current)
        self.tree.itemDoubleClicked.connect(self._take)
        self.tree.entered.connect(self._take)
        theme.changed.connect(self._fill)
        self._fill()

    def minimumSizeHint(self) -> QSize:
        """Qt: wide enough for every title beside the scroll bar."""
        bar = self.tree.verticalScrollBar().sizeHint().width()
        width = self.tree.sizeHintForColumn(0) + bar + 2 * _MARGIN_PX
        return QSize(width, super().minimumSizeHint().height())

    def select(self, type_id: str) -> None:
        """Make one type the current row."""
        for row in self._rows():
            if row.data(0, _TYPE_ID) == type_id:
                self.tree.setCurrentItem(row)

    def _rows(self) -> list[QTreeWidgetItem]:
        return [row for top in top_items(self.tree) for row in child_items(top)]

    def _fill(self) -> None:
        self.tree.clear()
        found = ranked(
            self.line.text(),
            self._registry.nodes.values(),
            lambda t: (t.title, f"{t.category} {t.help}"),
        )
        others = sorted({t.category for t in found} - set(CATEGORIES))
        for category in (*CATEGORIES, *others):
            types = [t for t in found if t.category == category]
            if types:
                self._add_group(category, types)
        self.tree.expandAll()
        if self.line.text() and found:
            self.select(found[0].id)  # the best match, wherever its group is

    def _add_group(self, category: str, types: list[NodeType[Settings]]) -> None:
        group = QTreeWidgetItem([category])
        group.setFlags(Qt.ItemFlag.ItemIsEnabled)
        group.setSizeHint(0, QSize(0, ROW_PX))
        group.setForeground(0, theme.colors().text_muted)
        self.tree.addTopLevelItem(group)
        for node_type in types:
            row = QTreeWidgetItem([node_type.title])
            tint = theme.colors().category(category)
            row.setIcon(0, icons.icon(icons.known(node_type.icon), tint))
            row.setToolTip(0, f"{node_type.help}\nDrag it onto the canvas, or double-click.")
            row.setData(0, _TYPE_ID, node_type.id)
            width = self.tree.fontMetrics().horizontalAdvance(node_type.title) + _AROUND_TITLE_PX
            row.setSizeHint(0, QSize(width, ROW_PX))
            group.addChild(row)

    def _take_current(self) -> None:
        rows = self._rows()
        if rows:
            current = self.tree.currentItem()
            self._take(current if current in rows else rows[0])

    def _take(self, row: QTreeWidgetItem | None) -> None:
        type_id = row.data(0, _TYPE_ID) if row is not None else None
        if type_id is not None:
            self.node_chosen.emit(str(type_id))
