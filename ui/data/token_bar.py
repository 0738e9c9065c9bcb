"""The controls above the token view: previous and next row, row number, next finding, by batch.

It holds no rows; it emits signals.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ui.data.controller import Progress
from ui.data.state_page import show_bar
from ui.style import icons
from ui.style.widgets import NUMBER_LEFT_PX, IconButton, MutedLabel, tab_order


class TokenBar(QWidget):
    """``row_wanted`` and ``batch_wanted`` carry a number (batch 0: all rows), ``step_wanted`` -1 or 1."""

    step_wanted = Signal(object)
    row_wanted = Signal(object)
    search_wanted = Signal()
    cancel_wanted = Signal()
    batch_wanted = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._count = 0
        self.before = IconButton("chevron-left", "Previous row", self)
        self.behind = IconButton("chevron-right", "Next row", self)
        self.number = QSpinBox(self)
        self.number.setObjectName("row-number")
        self.number.setAccessibleName("Go to row")
        self.number.setToolTip("Go to row")
        self.number.setKeyboardTracking(False)
        self.number.setMinimum(1)
        self.number.lineEdit().setTextMargins(NUMBER_LEFT_PX, 0, 0, 0)
        self.total = QLabel("", self)
        self.search = QPushButton("Next Finding", self)
        self.search.setObjectName("next-suspicious")
        self.search.setToolTip(
            "Go to the next row with a problem: no trained tokens, truncated, empty, damaged…"
        )
        self.batch = QPushButton("By Batch", self)
        self.batch.setObjectName("by-batch")
        self.batch.setCheckable(True)
        self.batch.setToolTip(
            "Show the rows of one training batch, with padding where rows are padded"
        )
        self.templates = QPushButton("Chat Template…", self)
        self.templates.setObjectName("chat-templates")
        self.templates.setToolTip("Compare how other chat templates format a conversation")
        icons.put(self.templates, "message-square", "text_muted")
        self.progress = QProgressBar(self)
        self.progress.setMaximumHeight(8)
        self.progress.setTextVisible(False)
        self.cancel = IconButton("x", "Stop searching", self)
        self.result = MutedLabel("", self)
        self.result.setObjectName("search-result")
        self._lay_out()
        self._connect()
        self.end_search("")

    def _lay_out(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(4)
        for widget in (self.before, self.behind, self.number, self.total):
            first.addWidget(widget)
        first.addStretch(1)
        first.addWidget(self.batch)
        second = QHBoxLayout()
        second.setSpacing(6)
        second.addWidget(self.search)
        second.addWidget(self.progress, 1)
        second.addWidget(self.cancel)
        second.addStretch(0)
        second.addWidget(self.templates)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 6, 10, 6)
        column.setSpacing(6)
        column.addLayout(first)
        column.addLayout(second)
        column.addWidget(self.result)
        for button in (self.search, self.batch, self.templates):
            button.setStyleSheet("QPushButton { padding: 3px 8px; }")
        tab_order(
            self.before,
            self.behind,
            self.number,
            self.batch,
            self.search,
            self.cancel,
            self.templates,
        )

    def _connect(self) -> None:
        self.before.clicked.connect(lambda: self.step_wanted.emit(-1))
        self.behind.clicked.connect(lambda: self.step_wanted.emit(1))
        self.number.valueChanged.connect(self._number_changed)
        self.search.clicked.connect(self.search_wanted)
        self.cancel.clicked.connect(self.cancel_wanted)
        self.batch.toggled.connect(self._batch_toggled)

    @property
    def by_batch(self) -> bool:
        """Whether the rows of one batch are shown."""
        return self.batch.isChecked()

    def show_rows(self, count: int) -> None:
        """Set the number of rows."""
        self._count = count
        self.leave_batch()
        self._range(count)

    def show_number(self, number: int) -> None:
        """Show the number of the current row."""
        self._quietly(number)

    def show_batches(self, number: int, count: int, padding: float | None = None) -> None:
        """Show the number of the current batch, and the share of padding among the tokens of an epoch."""
        self._range(count)
        self._quietly(number)
        words = (
            "" if padding is None else f"Padding: {100 * padding:.0f} % of the tokens of an epoch."
        )
        self.end_search(words)
        self.search.setEnabled(False)

    def leave_batch(self) -> None:
        """Switch back to all rows."""
        if self.batch.isChecked():
            self.batch.blockSignals(True)
            self.batch.setChecked(False)
            self.batch.blockSignals(False)
        self._name("row")
        self._range(self._count)
        self.end_search("")

    def show_search(self, progress: Progress | None) -> None:
        """Show that a search is running."""
        self.result.hide()
        self.progress.show()
        self.cancel.show()
        self.search.setEnabled(False)
        show_bar(self.progress, progress)

    def end_search(self, result: str) -> None:
        """Show the result of a search that has ended."""
        self.progress.hide()
        self.cancel.hide()
        self.search.setEnabled(True)
        self.result.setText(result)
        self.result.setVisible(bool(result))

    def _batch_toggled(self, on: bool) -> None:
        self._name("batch" if on else "row")
        if on:
            self._quietly(1)
        else:
            self._range(self._count)
            self.end_search("")
        self.search.setEnabled(not on)
        self.batch_wanted.emit(1 if on else 0)

    def _name(self, what: str) -> None:
        self.number.setAccessibleName(f"Go to {what}")
        self.number.setToolTip(f"Go to {what}")
        self.number.setPrefix("" if what == "row" else "batch ")
        self.search.setEnabled(what == "row")

    def _number_changed(self, number: int) -> None:
        if self.by_batch:
            self.batch_wanted.emit(number)
        else:
            self.row_wanted.emit(number)

    def _range(self, count: int) -> None:
        self.number.blockSignals(True)
        self.number.setRange(1, max(1, count))
        self.number.blockSignals(False)
        self.total.setText(f"of {count:,}")

    def _quietly(self, number: int) -> None:
        self.number.blockSignals(True)
        self.number.setValue(number)
        self.number.blockSignals(False)
