"""The inspector's tabs for data: Settings, Rows, Tokens, Report.

It finds the data of a selected node and creates the pages when they are first shown. The form of
the settings belongs to the inspector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QPushButton, QWidget

from studio.graph import guide
from studio.graph.graph import Graph
from ui.data.controller import DataController
from ui.inspector.tabs import SETTINGS, NodeTabs
from ui.style import icons
from ui.style.guide_link import explain

if TYPE_CHECKING:
    from ui.data.rows_page import RowsPage
    from ui.data.token_page import TokenPage

ROWS, TOKENS, REPORT = "rows", "tokens", "report"
TITLES = {ROWS: "Rows", TOKENS: "Tokens", REPORT: "Report"}
NODES = ("dataset", "train")


class DataTabs(NodeTabs):
    """The pages of one window's data; each module is imported when its page is first shown."""

    def __init__(self, controller: DataController, parent: QWidget | None = None) -> None:
        super().__init__(TITLES, parent)
        self.bar.setObjectName("data-tabs")
        self.bar.setAccessibleName("Settings and data")
        self.controller = controller
        self._node: str | None = None
        self._rows: RowsPage | None = None
        self._tokens: TokenPage | None = None
        self._report: QWidget | None = None
        controller.edited.connect(self.follow)

    def show_node(self, node: str | None) -> bool:
        """Show the data of this node; False if it has none."""
        graph = self.controller.document.graph
        fits = node is not None and graph.has(node) and self.suits(graph.node(node).type)
        self._node = node if fits else None
        self.setVisible(fits)
        if fits:
            self.follow()
        return fits

    def suits(self, type_id: str) -> bool:
        """Whether nodes of this type have data."""
        return type_id in NODES

    def page(self, tab: str) -> QWidget | None:
        """The page of a tab, created if necessary; ``None`` for the settings."""
        if tab == TOKENS:
            return self._token_page()
        if tab == ROWS:
            return self._rows_page()
        if tab == REPORT:
            return self._report_page()
        return None

    def go_to_row(self, number: int) -> None:
        """Show a row's tokens."""
        self.choose(TOKENS)
        self._token_page().go_to(number)

    # ------------------------------------------------------------ pages

    def _rows_page(self) -> RowsPage:
        if self._rows is None:
            from ui.data.rows_page import RowsPage

            self._rows = RowsPage(self.controller)
            explain(self._rows, guide.PARTS["rows"])
            self.follow()
        return self._rows

    def _token_page(self) -> TokenPage:
        if self._tokens is None:
            from ui.data.token_page import TokenPage

            self._tokens = TokenPage(self.controller)
            explain(self._tokens, guide.PARTS["tokens"])
            self._tokens.templates_wanted.connect(self._choose_template)
            self.follow()
        return self._tokens

    def _report_page(self) -> QWidget:
        if self._report is None:
            from ui.data.report_page import ReportPage

            page = ReportPage(self.controller)
            explain(page, guide.PARTS["report"])
            page.row_wanted.connect(self.go_to_row)
            self._report = page
            self.follow()
        return self._report

    def below_settings(self) -> QPushButton | None:
        """A button for the settings of a Train node; ``None`` for others."""
        graph = self.controller.document.graph
        if self._node is None or graph.node(self._node).type != "train":
            return None
        button = QPushButton("Compare Chat Templates…")
        button.setObjectName("compare-templates")
        button.setToolTip("Shows how each chat template formats a conversation")
        icons.put(button, "message-square", "text_muted")
        button.clicked.connect(self._choose_template)
        return button

    def _choose_template(self) -> None:
        """Open the dialog for the Train node of the data."""
        from ui.data.template_dialog import TemplateDialog

        graph = self.controller.document.graph
        node = graph.node(self._node) if self._node and graph.has(self._node) else None
        if node is not None and node.type == "train":
            self.controller.look_at(node.id)
        if self.controller.train is not None:
            TemplateDialog(self.controller, self.controller.train, self.window()).open()

    # ------------------------------------------------------------ which data

    def follow(self) -> None:
        """Update the controller and the pages; nothing is opened for the settings."""
        graph = self.controller.document.graph
        if self._node is None or not graph.has(self._node) or self.tab == SETTINGS:
            return
        is_train = graph.node(self._node).type == "train"
        train = self._node if is_train else train_fed_by(graph, self._node)
        if self.tab in (TOKENS, REPORT):
            self.controller.look_at(train)
        elif self._rows is not None:
            dataset = dataset_of(graph, self._node) if is_train else self._node
            self._rows.show_dataset(dataset, train)


def train_fed_by(graph: Graph, node: str) -> str | None:
    """The first Train node that uses the rows of this Dataset node, also through Mix nodes."""
    for train in (n for n in graph.nodes if n.type == "train"):
        wire = graph.wire_into(train.id, "dataset")
        if wire is not None and node in {wire.source, *graph.upstream(wire.source)}:
            return train.id
    return None


def dataset_of(graph: Graph, train: str) -> str | None:
    """The first Dataset node whose rows a Train node uses."""
    wire = graph.wire_into(train, "dataset")
    if wire is None:
        return None
    before = {wire.source, *graph.upstream(wire.source)}
    found = [n.id for n in graph.nodes if n.id in before and n.type == "dataset"]
    return wire.source if wire.source in found else next(iter(found), None)
