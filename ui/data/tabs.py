"""The inspector's tabs for data: Settings, Rows, Tokens, Report, and the button that makes it wide.

It decides which data a selected node is about and makes the pages when they are first shown. The
form of the settings stays the inspector's.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QTabBar, QWidget

from ui.data.controller import DataDesk
from ui.data.feeds import dataset_of, train_fed_by
from ui.inspector.look import IconButton
from ui.style import icons

SETTINGS, ROWS, TOKENS, REPORT = "settings", "rows", "tokens", "report"
TITLES = {SETTINGS: "Settings", ROWS: "Rows", TOKENS: "Tokens", REPORT: "Report"}
NODES = ("dataset", "train")
NARROW, WIDE = "Restore the width of the inspector", "Widen the inspector to show rows and tokens"


class DeskTabs(QWidget):
    """``chosen`` carries the id of a tab, ``widen_wanted`` whether it shall be wide."""

    chosen = Signal(object)
    widen_wanted = Signal(object)

    def __init__(self, desk: DataDesk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk = desk
        self._node: str | None = None
        self._pages: dict[str, QWidget] = {}
        self.bar = QTabBar(self)
        self.bar.setObjectName("data-tabs")
        self.bar.setAccessibleName("Settings and data")
        self.bar.setDrawBase(False)
        self.bar.setExpanding(False)
        self.bar.setStyleSheet("QTabBar::tab { padding: 7px 7px; margin: 0; }")
        for tab, title in TITLES.items():
            self.bar.setTabData(self.bar.addTab(title), tab)
        self.bar.currentChanged.connect(self._changed)
        self.wide = IconButton("panel-right", WIDE, self)
        self.wide.setObjectName("widen-inspector")
        self.wide.setCheckable(True)
        self.wide.toggled.connect(self._widened)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 2, 6, 0)
        row.setSpacing(2)
        row.addWidget(self.bar, 1)
        row.addWidget(self.wide)
        desk.edited.connect(self._follow)
        self.hide()

    @property
    def tab(self) -> str:
        """The id of the chosen tab."""
        return str(self.bar.tabData(self.bar.currentIndex()))

    def choose(self, tab: str) -> None:
        """Bring a tab to the front."""
        self.bar.setCurrentIndex(list(TITLES).index(tab))

    def show_node(self, node: str | None) -> bool:
        """Be about this node; False where there is nothing to show about it."""
        graph = self.desk.document.graph
        fits = node is not None and graph.has(node) and graph.node(node).type in NODES
        self._node = node if fits else None
        self.setVisible(fits)
        if fits:
            self._follow()
        return fits

    def show_wide(self, wide: bool) -> None:
        """The inspector is wide, or not."""
        self.wide.blockSignals(True)
        self.wide.setChecked(wide)
        self.wide.blockSignals(False)
        self._name_wide(wide)

    def page(self, tab: str) -> QWidget | None:
        """The page of a tab, made now if need be; ``None`` for the settings."""
        if tab == SETTINGS:
            return None
        if tab not in self._pages:
            self._pages[tab] = self._makers()[tab]()
            self._follow()
        return self._pages[tab]

    def go_to_row(self, number: int) -> None:
        """Show a row's tokens."""
        from ui.data.token_page import TokenPage

        self.choose(TOKENS)
        page = self.page(TOKENS)
        assert isinstance(page, TokenPage)
        page.go_to(number)

    # ------------------------------------------------------------ pages

    def _makers(self) -> dict[str, Callable[[], QWidget]]:
        return {ROWS: self._rows, TOKENS: self._tokens, REPORT: self._report}

    def _rows(self) -> QWidget:
        from ui.data.rows_page import RowsPage

        return RowsPage(self.desk)

    def _tokens(self) -> QWidget:
        from ui.data.token_page import TokenPage

        page = TokenPage(self.desk)
        page.templates_wanted.connect(self._choose_template)
        return page

    def _report(self) -> QWidget:
        from ui.data.report_page import ReportPage

        page = ReportPage(self.desk)
        page.row_wanted.connect(self.go_to_row)
        return page

    def template_button(self) -> QPushButton | None:
        """A button for the settings of a Train node; ``None`` for others."""
        graph = self.desk.document.graph
        if self._node is None or graph.node(self._node).type != "train":
            return None
        button = QPushButton("Compare chat templates…")
        button.setObjectName("compare-templates")
        button.setToolTip("Shows how each chat template formats a conversation")
        icons.put(button, "message-square", "text_muted")
        button.clicked.connect(self._choose_template)
        return button

    def _choose_template(self) -> None:
        """The dialog of the Train node whose data are shown, or would be."""
        from ui.data.template_dialog import TemplateDialog

        graph = self.desk.document.graph
        node = graph.node(self._node) if self._node and graph.has(self._node) else None
        if node is not None and node.type == "train":
            self.desk.look_at(node.id)
        if self.desk.train is not None:
            TemplateDialog(self.desk, self.desk.train, self.window()).open()

    # ------------------------------------------------------------ which data

    def _changed(self) -> None:
        self._follow()
        self.chosen.emit(self.tab)

    def _follow(self) -> None:
        """Tell the desk and the pages what they are about; nothing is opened for the settings."""
        graph = self.desk.document.graph
        if self._node is None or not graph.has(self._node) or self.tab == SETTINGS:
            return
        is_train = graph.node(self._node).type == "train"
        if self.tab in (TOKENS, REPORT):
            self.desk.look_at(self._node if is_train else train_fed_by(graph, self._node))
        elif ROWS in self._pages:
            dataset = dataset_of(graph, self._node) if is_train else self._node
            self._pages[ROWS].show_dataset(dataset)  # type: ignore[attr-defined]

    def _widened(self, wide: bool) -> None:
        self._name_wide(wide)
        self.widen_wanted.emit(wide)

    def _name_wide(self, wide: bool) -> None:
        self.wide.setToolTip(NARROW if wide else WIDE)
        self.wide.setAccessibleName(NARROW if wide else WIDE)
