"""What the inspector shows when no single node is selected: the project, its nodes, its problems.

Choosing a node or a problem emits a signal; the window moves the selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QAbstractItemView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.errors import Problem, counted
from studio.graph import guide
from studio.graph.document import Document
from studio.graph.edits import rename
from studio.graph.graph import Node
from studio.graph.node_type import NodeType
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.graph.wires import title_of
from ui.inspector.header import TitleEdit
from ui.style import icons, theme
from ui.style.guide_link import MORE, explain
from ui.style.widgets import MutedLabel, icon_side, plain_tip

_PADDING_PX = 16  # of an item in the style sheet, which the size of wrapped text leaves out
EMPTY_WORDS = (
    "The project is empty. Drag a node from the palette onto the canvas, or double-click the "
    "canvas and type its name."
)
_DATA = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex


class WrappedItem(QStyledItemDelegate):
    """An item of several lines that is as high as its text needs: Qt ignores the padding."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Qt: the size of an item."""
        narrow = QStyleOptionViewItem(option)
        narrow.rect = option.rect.adjusted(0, 0, -_PADDING_PX, 0)
        return super().sizeHint(narrow, index)


class Overview(QWidget):
    """The project's name, its nodes, and a list of problems that lead to their nodes."""

    problem_activated = Signal(object)
    node_activated = Signal(object)

    def __init__(
        self, document: Document, registry: Registry, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self._chosen: tuple[str, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._may_run = True
        self._shown: object = None
        self._shown_problems: object = None
        self._name = TitleEdit("Project name", self)
        self._name.setObjectName("project-name")
        self._name.setPlaceholderText("Untitled")
        self._name.textEdited.connect(self._rename)
        self._name.left.connect(self._left)
        self._note = MutedLabel("", self)
        self._note.setObjectName("overview-note")
        self._nodes = self._list("overview-nodes", "Nodes of the project")
        self._nodes.itemActivated.connect(self._open_node)
        self._nodes.itemClicked.connect(self._open_node)
        self._problem_title = QLabel("", self)
        self._problem_list = self._list("overview-problems", "Problems of the project")
        self._problem_list.setWordWrap(True)
        self._problem_list.setItemDelegate(WrappedItem(self._problem_list))
        self._problem_list.itemActivated.connect(self._open_problem)
        self._problem_list.itemClicked.connect(self._open_problem)
        self._problem_list.currentItemChanged.connect(self._explain)
        self._lay_out()
        theme.changed.connect(self.refresh)
        self.refresh()

    def show_several(self, ids: Sequence[str]) -> None:
        """Show the number of selected nodes, or the project if none is selected."""
        self._chosen = tuple(ids)
        self.refresh()

    def set_problems(self, problems: Sequence[Problem]) -> None:
        """Show the problems of the entire graph."""
        self._problems = tuple(problems)
        self.refresh()

    def set_may_run(self, may_run: bool) -> None:
        """Whether Run is available: not while a run is going."""
        self._may_run = may_run
        self._show_problems()

    def set_read_only(self, read_only: bool) -> None:
        """Make the name read-only, or editable again."""
        self._name.setReadOnly(read_only)

    def refresh(self) -> None:
        """Update the overview from the document."""
        graph = self._document.graph
        if not self._name.hasFocus() or graph.name != "Untitled":
            self._name.show_text(graph.name)
        nodes = [n for n in graph.nodes if not self._chosen or n.id in self._chosen]
        counts = {n.id: counted(p for p in self._problems if p.node == n.id) for n in nodes}
        shown = (theme.colors().name, [(n.id, n.type, n.title, counts[n.id]) for n in nodes])
        if shown != self._shown:
            self._shown = shown
            self._fill(nodes, counts)
        self._nodes.setVisible(bool(nodes))
        self._note.setText(self._words(len(graph.nodes)))
        self._show_problems()

    def _fill(self, nodes: Sequence[Node], counts: Mapping[str, str]) -> None:
        self._nodes.clear()
        for node in nodes:
            node_type = self._registry.node_type(node.type)
            sign = f"  ·  {counts[node.id]}" if counts[node.id] else ""
            item = QListWidgetItem(f"{title_of(node, self._registry)}{sign}")
            item.setIcon(self._icon(node_type))
            item.setData(_DATA, node.id)
            item.setToolTip(plain_tip(f"ID: {node.id}"))
            self._nodes.addItem(item)

    def _words(self, count: int) -> str:
        if not count:
            return EMPTY_WORDS
        if self._chosen:
            return f"{len(self._chosen)} nodes are selected. Select one to see its settings."
        return "Select a node to see its settings."

    def _icon(self, node_type: NodeType[Settings] | None) -> QIcon:
        name, category = (node_type.icon, node_type.category) if node_type else ("", "")
        return icons.icon(icons.known(name), theme.colors().category(category))

    def _show_problems(self) -> None:
        shown = (theme.colors().name, self._problems)
        if shown != self._shown_problems:
            self._shown_problems = shown
            self._fill_problems()
        found = bool(self._problems)
        self._problem_list.setVisible(found)
        none = "No problems: ready to run." if self._may_run else "No problems."
        self._problem_title.setText(counted(self._problems) or none)
        self._problem_title.setVisible(found or bool(self._document.graph.nodes))

    def _fill_problems(self) -> None:
        self._problem_list.clear()
        for problem in self._problems:
            name = "circle-alert" if problem.blocks else "triangle-alert"
            color = theme.colors().danger if problem.blocks else theme.colors().warning
            text = f"{problem.sentence}\n{problem.hint}" if problem.hint else problem.sentence
            item = QListWidgetItem(icons.icon(name, color), text)
            item.setData(_DATA, problem)
            if guide.of_problem(problem.code):
                item.setToolTip(f"F1: {MORE.lower()}")
            self._problem_list.addItem(item)

    def _list(self, name: str, words: str) -> QListWidget:
        found = QListWidget(self)
        found.setObjectName(name)
        found.setAccessibleName(words)
        found.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        found.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        found.setResizeMode(QListWidget.ResizeMode.Adjust)
        side = icon_side(self)
        found.setIconSize(QSize(side, side))
        return found

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        column.addWidget(self._name)
        column.addWidget(self._note)
        column.addWidget(self._nodes, 3)
        column.addWidget(self._problem_title)
        column.addWidget(self._problem_list, 4)
        column.addStretch(0)

    def _open_node(self, item: QListWidgetItem) -> None:
        self.node_activated.emit(item.data(_DATA))

    def _open_problem(self, item: QListWidgetItem) -> None:
        self.problem_activated.emit(item.data(_DATA))

    def _explain(self, item: QListWidgetItem | None) -> None:
        code = item.data(_DATA).code if item is not None else ""
        explain(self._problem_list, guide.of_problem(code) or guide.PARTS["problems"])

    def _rename(self, name: str) -> None:
        self._document.edit(rename(self._document.graph, name), "Rename project", "project.name")

    def _left(self) -> None:
        self._document.end_merge()
        self._name.show_text(self._document.graph.name)
