"""The Tokens tab: the list of rows, and the selected row as the model sees it.

Rows come from ``RowsModel``; this page requests the next finding and the rows of a batch.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QSplitter,
    QTableView,
    QWidget,
)

from studio.preview.protocol import Reply
from ui.data.controller import DataController, problem_of, progress_of
from ui.data.row_view import RowView
from ui.data.rows_model import NUMBER, SIDE, TRAINED, RowsModel, entries_in
from ui.data.state_page import PageStack, StatePage, fill
from ui.data.token_bar import TokenBar
from ui.style.widgets import scrolling

WIDE_PX = 720
LOADING = "Loading…"


class TokenPage(QWidget):
    """``templates_wanted``: the user wants to choose another chat template."""

    templates_wanted = Signal()

    def __init__(self, controller: DataController, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("token-page")
        self._controller = controller
        self._sized = False
        self._opened: int | None = None
        self._train: str | None = None
        self._search = 0
        self._batching = 0
        self._go_to = 0
        self.model = RowsModel(controller, self)
        self.table = self._make_table()
        self.row_view = RowView(self)
        self.bar = TokenBar(self)
        self.state = StatePage(self)
        self.state.pressed.connect(controller.retry)
        self._lay_out()
        self._connect()
        self._show_state()

    def _make_table(self) -> QTableView:
        table = QTableView(self)
        table.setObjectName("token-rows")
        table.setAccessibleName("Rows")
        table.setModel(self.model)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.setAlternatingRowColors(True)
        table.setTabKeyNavigation(False)
        table.setCornerButtonEnabled(False)
        table.setFrameShape(QTableView.Shape.NoFrame)
        table.verticalHeader().hide()
        height = round(table.fontMetrics().height() * 1.6)
        table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        table.verticalHeader().setDefaultSectionSize(height)
        header = table.horizontalHeader()
        header.setHighlightSections(False)
        header.setStretchLastSection(True)
        digits = table.fontMetrics().horizontalAdvance("0")
        for column, width in ((NUMBER, 9), (TRAINED, 12), (SIDE, 12)):
            table.setColumnWidth(column, digits * width)
        table.setMinimumHeight(4 * height)
        return table

    def _lay_out(self) -> None:
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.addWidget(self.table)
        self.splitter.addWidget(
            scrolling(self.row_view, self)
        )  # a low window has no room for all of it
        self.splitter.setStretchFactor(0, 2)
        self.splitter.setStretchFactor(1, 5)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.splitterMoved.connect(self._fit_columns)
        full = QWidget(self)
        fill(full, self.bar, self.splitter)
        self._stack = PageStack(self, self.state, full)

    def _connect(self) -> None:
        controller, bar = self._controller, self.bar
        controller.changed.connect(self._show_state)
        self.model.loaded.connect(self._loaded)
        self.model.failed.connect(self._row_failed)
        self.table.selectionModel().currentRowChanged.connect(self._chosen)
        bar.step_wanted.connect(self._step)
        bar.row_wanted.connect(self.go_to)
        bar.search_wanted.connect(self.next_suspicious)
        bar.cancel_wanted.connect(self.cancel_search)
        bar.batch_wanted.connect(self._show_batch)
        bar.templates.clicked.connect(self.templates_wanted)

    # ------------------------------------------------------------ interface

    @property
    def current(self) -> int:
        """The number of the selected row; 0 if there is none."""
        at = self.table.currentIndex().row()
        if self.bar.by_batch:
            entry = self.model.entry(at)
            return entry.number if entry is not None else 0
        return at + 1

    def go_to(self, number: int) -> None:
        """Select a row by its number as soon as the data are open."""
        if self._controller.state != "open" or self._opened is None:
            self._go_to = number
            return
        self.bar.leave_batch()
        self.model.leave_batch()
        at = min(max(1, number), self._controller.rows) - 1
        if at < 0:
            return
        index = self.model.index(at, 0)
        if self.table.currentIndex() != index:
            self.table.setCurrentIndex(index)
        else:
            self._show_row(at)
        self.table.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    def next_suspicious(self) -> None:
        """Search for the next row with a finding."""
        if self._controller.state == "open" and not self._search:
            self._search = self._controller.ask(
                "next_suspicious", self._search_replied, after=self.current, kinds=[]
            )
            self.bar.show_search(None)

    def cancel_search(self) -> None:
        """Cancel the search."""
        self._controller.link.cancel(self._search)
        self._search = 0
        self.bar.end_search("")

    # ------------------------------------------------------------ following the controller

    def _show_state(self) -> None:
        controller = self._controller
        if (
            controller.state == "opening"
            and self._opened is not None
            and controller.train == self._train
        ):
            return  # after an edit; keep showing the old rows until there are new ones
        if controller.state != "open":
            self._opened = None
            self._search = self._batching = 0
            self.bar.end_search("")
            self.state.show_state_of(controller)
            self._stack.show_full(False)
            return
        if self._opened == controller.openings:
            return
        self._open(self._go_to or self.current or 1)

    def _open(self, number: int) -> None:
        self._opened, self._train, self._go_to = (
            self._controller.openings,
            self._controller.train,
            0,
        )
        self._search = self._batching = 0
        self.bar.end_search("")
        self.model.show_all(self._controller.rows)
        self.bar.show_rows(self._controller.rows)
        self._stack.show_full(True)
        if self._controller.rows:
            self.go_to(number)
        else:
            self.row_view.show_entry(None, "No rows.")

    def _chosen(self) -> None:
        at = self.table.currentIndex().row()
        if at >= 0:
            self._show_row(at)

    def _show_row(self, at: int) -> None:
        entry = self.model.entry(at)
        self.row_view.show_entry(entry, LOADING)
        if not self.bar.by_batch:
            self.bar.show_number(at + 1)

    def _loaded(self, numbers: tuple[int, int]) -> None:
        at = self.table.currentIndex().row()
        if not self.bar.by_batch and numbers[0] <= at + 1 <= numbers[1]:
            self._show_row(at)

    def _row_failed(self, problem: Any) -> None:
        self.row_view.show_entry(None, f"{problem.sentence} {problem.hint}".strip())

    def _step(self, by: int) -> None:
        at = self.table.currentIndex().row() + by
        if 0 <= at < self.model.rowCount():
            self.table.setCurrentIndex(self.model.index(at, 0))

    # ------------------------------------------------------------ searching, batches

    def _search_replied(self, reply: Reply) -> None:
        if reply.kind == "progress":
            self.bar.show_search(progress_of(reply))
        if not reply.last:
            return
        self._search = 0
        if reply.kind == "error":
            self._controller.host_failed(reply)
            self.bar.end_search(problem_of(reply).sentence)
        elif reply.kind == "result":
            number = int(reply.data["number"])
            behind = f"No more findings after row {self.current}."
            self.bar.end_search("" if number else behind)
            if number:
                self.go_to(number)

    def _show_batch(self, number: int) -> None:
        """Show the rows of a batch with padding; 0 shows all rows."""
        if self._batching:
            self._controller.link.cancel(self._batching)
            self._batching = 0
        if not number:
            chosen = self.current or 1
            entry = self.model.entry(self.table.currentIndex().row())
            self.model.leave_batch()
            self.go_to(entry.number if entry is not None else chosen)
            return
        self.row_view.show_entry(None, "Building batches…")
        self._batching = self._controller.ask("rows", self._batch_replied, entries_in, batch=number)

    def _batch_replied(self, reply: Reply) -> None:
        if not reply.last:
            return
        self._batching = 0
        if reply.kind == "error" and not self._controller.host_failed(reply):
            self._row_failed(problem_of(reply))
        elif reply.kind == "result" and self.bar.by_batch:
            self.bar.show_batches(
                int(reply.data["batch"]), int(reply.data["batches"]), reply.data.get("padding")
            )
            self.model.show_batch(reply.data["read"])
            self.table.setCurrentIndex(self.model.index(0, 0))

    # ------------------------------------------------------------ Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Side by side where there is room."""
        super().resizeEvent(event)
        wide = event.size().width() >= WIDE_PX
        wanted = Qt.Orientation.Horizontal if wide else Qt.Orientation.Vertical
        if self.splitter.orientation() != wanted or not self._sized:
            self._sized = True
            self.splitter.setOrientation(wanted)
            total = event.size().width() if wide else event.size().height()
            share = 0.4 if wide else 0.32
            self.splitter.setSizes([round(total * share), round(total * (1 - share))])
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Prefer the text column over the split column, which the selected row shows, too."""
        beside = self.splitter.orientation() == Qt.Orientation.Horizontal
        room = self.splitter.sizes()[0] if beside else self.width()
        digits = self.table.fontMetrics().horizontalAdvance("0")
        self.table.setColumnHidden(SIDE, room < digits * 50)
