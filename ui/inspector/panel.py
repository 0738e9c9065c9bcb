"""The inspector panel: the form of the selected node, or an overview of the project.

It follows the Document and the Problems it is given. It does not check the graph or change the
selection: it emits signals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, QTimer, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QStackedLayout, QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.edits import retitle
from studio.graph.registry import Registry
from ui.inspector.header import NodeHeader
from ui.inspector.overview import Overview
from ui.inspector.steady_area import SteadyArea
from ui.inspector.tabs import SETTINGS, NodeTabs
from ui.style.widgets import retire

if TYPE_CHECKING:
    from ui.inspector.node_form import NodeForm

_MINIMUM_WIDTH_PX = 240
_MARGIN_PX = 24

MakePart = Callable[[str, str, QWidget], QWidget | None]  # node, its type, parent


class InspectorPanel(QWidget):
    """Shows and edits the settings of the selected node.

    ``problem_activated`` carries a Problem from the list, ``node_activated`` a node id, ``extent_chosen``
    whether all settings are shown from now on, ``model_wanted`` a node whose base model is to be chosen.
    """

    problem_activated = Signal(object)
    node_activated = Signal(object)
    model_wanted = Signal(object)
    extent_chosen = Signal(object)

    def __init__(
        self, document: Document, registry: Registry, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("inspector")
        self.setAccessibleName("Inspector")
        self._document, self._registry = document, registry
        self._ids: tuple[str, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._read_only = False
        self._folds: dict[str, dict[str, bool]] = {}
        self._form: NodeForm | None = None
        self._overview = Overview(document, registry, self)
        self._overview.problem_activated.connect(self.problem_activated)
        self._overview.node_activated.connect(self.node_activated)
        self._scroll: SteadyArea | None = None
        self._all = False
        self._tabbed = ""  # the type of the node whose tabs were shown last
        self.tabs: NodeTabs | None = None
        self._make_part: MakePart | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._header = NodeHeader(self)
        self._header.retitled.connect(self._retitle)
        self._header.left.connect(document.end_merge)
        self._column.addWidget(self._header)
        self._stack = QStackedLayout()
        self._column.addLayout(self._stack, 1)
        self._stack.addWidget(self._overview)
        self.destroyed.connect(document.listen(self._document_changed))

    def minimumSizeHint(self) -> QSize:
        """Qt: wide enough for all tabs, also while a node without tabs is shown."""
        tabs = self.tabs.minimumSizeHint().width() if self.tabs is not None else 0
        return QSize(max(_MINIMUM_WIDTH_PX, tabs), 0)

    def use_tabs(self, tabs: NodeTabs) -> None:
        """Show tabs with data next to the settings of nodes that have data."""
        self.tabs = tabs
        self._column.insertWidget(1, tabs)
        tabs.chosen.connect(self._show_page)
        self.show_nodes(self._ids)

    def put_under_header(self, make: MakePart) -> None:
        """Register a widget to be added under the header of matching forms."""
        self._make_part = make

    def show_tab(self, node_id: str, tab: str) -> None:
        """Show a node and one of its tabs."""
        self.show_nodes((node_id,))
        if self.tabs is not None:
            self.tabs.choose(tab)

    def show_nodes(self, ids: Sequence[str]) -> None:
        """Show one node's form; several: how many; none: the project."""
        ids = tuple(i for i in ids if self._document.graph.has(i))
        if len(ids) != 1:
            self._drop_form()
            self._overview.show_several(ids)
            self._stack.setCurrentWidget(self._overview)
        elif self._form is None or not self._shows(ids[0]):
            self._show_form(ids[0])
        self._open_on_settings(ids)
        self._ids = ids
        self._show_header()
        if self.tabs is not None:
            self.tabs.show_node(ids[0] if len(ids) == 1 else None)
            self._add_below_settings()
            self._show_page()

    def set_problems(self, problems: Sequence[Problem]) -> None:
        """Show the Problems of the entire graph after each check."""
        self._problems = tuple(problems)
        self._overview.set_problems(self._problems)
        if self._form is not None:
            self._form.set_problems(self._problems)

    def show_all(self, all_settings: bool) -> None:
        """Show all settings that apply, or the essential ones."""
        self._all = all_settings
        if self._form is not None:
            self._form.show_all(all_settings)

    def set_may_run(self, may_run: bool) -> None:
        """Whether Run is available: not while a run is going."""
        self._overview.set_may_run(may_run)

    def review_code(self, node_id: str) -> None:
        """Review the custom code of a node's model."""
        self.show_nodes((node_id,))
        if self._form is not None:
            self._form.review_code()

    def set_read_only(self, read_only: bool) -> None:
        """Make the panel read-only while a run is shown."""
        self._read_only = read_only
        self._header.set_read_only(read_only)
        self._overview.set_read_only(read_only)
        if self._form is not None:
            self._form.set_read_only(read_only)

    def focus_field(self, node_id: str, field: str | None) -> None:
        """Show a node and give one of its fields the focus; a port has no field and is ignored."""
        self.show_nodes((node_id,))
        if field and self.tabs is not None:
            self.tabs.choose(SETTINGS)
        row = self._form.focus_field(field) if self._form is not None and field else None
        if row is not None:
            QTimer.singleShot(0, self, lambda: self._scroll_to(row))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: undo and redo from a field, if no action of the window handled them."""
        if event.matches(QKeySequence.StandardKey.Undo):
            self._document.undo()
        elif event.matches(QKeySequence.StandardKey.Redo):
            self._document.redo()
        else:
            super().keyPressEvent(event)

    def _add_below_settings(self) -> None:
        widget = self.tabs.below_settings() if self.tabs is not None else None
        if widget is not None and self._form is not None:
            self._form.add_below(widget)

    def _show_page(self) -> None:
        """The page of the chosen tab, or the form."""
        tabs = self.tabs
        page = tabs.page(tabs.tab) if tabs is not None and not tabs.isHidden() else None
        if page is not None and self._stack.indexOf(page) < 0:
            self._stack.addWidget(page)
        shown = page or self._scroll or self._overview
        if self._stack.currentWidget() is not shown:
            self._document.end_merge()
            self._stack.setCurrentWidget(shown)

    def _shows(self, node_id: str) -> bool:
        form = self._form
        graph = self._document.graph
        if form is None or form.node_id != node_id or not graph.has(node_id):
            return False
        return form.type_id == graph.node(node_id).type

    def _show_form(self, node_id: str) -> None:
        from ui.inspector.node_form import NodeForm  # the first paint needs no form

        self._drop_form()
        type_id = self._document.graph.node(node_id).type
        folds = self._folds.setdefault(type_id, {})
        self._scroll = SteadyArea(
            self
        )  # a new one: moving a form between parents would style it twice
        place = self._scroll.viewport()
        self._form = NodeForm(self._document, self._registry, node_id, folds, self._all, place)
        self._form.extent_chosen.connect(self._choose_extent)
        self._form.model_wanted.connect(self.model_wanted)
        self._form.relaid.connect(self._scroll.relaid)
        if self._make_part is not None:
            self._form.add_part(self._make_part(node_id, type_id, self._form))
        self._form.set_problems(self._problems)
        self._form.set_read_only(self._read_only)
        self._scroll.show_content(self._form, self._form.column, self._form.rows)
        self._stack.addWidget(self._scroll)
        self._stack.setCurrentWidget(self._scroll)

    def _open_on_settings(self, ids: tuple[str, ...]) -> None:
        """Another type of node opens on its settings; between two nodes of a type the tab stays."""
        tabs, graph = self.tabs, self._document.graph
        if tabs is None or len(ids) != 1 or not tabs.suits(graph.node(ids[0]).type):
            return
        kind = graph.node(ids[0]).type
        if kind != self._tabbed:
            tabs.choose(SETTINGS)
        self._tabbed = kind

    def _choose_extent(self, all_settings: bool) -> None:
        self.show_all(all_settings)
        self.extent_chosen.emit(all_settings)

    def _show_header(self) -> None:
        """Name the node that is edited, above every tab."""
        shown = len(self._ids) == 1 and self._document.graph.has(self._ids[0])
        self._header.setVisible(shown)
        if shown:
            node = self._document.graph.node(self._ids[0])
            self._header.show_node(node, self._registry.node_type(node.type))

    def _retitle(self, title: str) -> None:
        graph = self._document.graph
        if len(self._ids) != 1 or not graph.has(self._ids[0]):
            return
        node = graph.node(self._ids[0])
        node_type = self._registry.node_type(node.type)
        wanted = "" if node_type and title.strip() == node_type.title else title
        self._document.edit(retitle(graph, node.id, wanted), "Rename node", f"{node.id}.title")

    def _drop_form(self) -> None:
        scroll = self._scroll
        if scroll is None:
            return
        self._document.end_merge()
        self._scroll, self._form = None, None
        self._stack.removeWidget(scroll)
        retire(scroll)

    def _document_changed(self) -> None:
        if self._form is not None and self._shows(self._form.node_id):
            self._form.refresh()
            self._show_header()
            return
        self._overview.refresh()
        self.show_nodes(self._ids)

    def _scroll_to(self, row: QWidget) -> None:
        if self._scroll is not None and self._scroll.isAncestorOf(row):
            self._scroll.ensureWidgetVisible(row, _MARGIN_PX, _MARGIN_PX)
