"""The Samples tab: the model's answers during training by prompt and step.

It reads a ``RunState`` and emits requests; it does not communicate with a run itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.events import Event
from studio.runs.samples import SampleGrid
from studio.runs.state import RunState
from ui.monitor.sample_reader import SampleReader
from ui.monitor.sample_table import SampleTable
from ui.style import icons
from ui.style.widgets import ElidedLabel, tab_order

EDGES_PX = 30  # of a line edit around its text
SETTLE_MS = 50  # until the splitter has given the reader its space
EMPTY_TEXT = (
    "The model's answers during training appear here: before the first step, at every evaluation "
    "and at the end. Enter prompts in the Train node, under Samples."
)
WAITING_TEXT = "The first answers appear when training starts."
ASKED_TEXT = "Requested. The answers are generated between two steps."


class SamplesPanel(QWidget):
    """The samples of one run.

    ``sample_wanted`` carries the prompts to answer now (none: those of the project);
    ``prompts_wanted`` is emitted to edit the prompts.
    """

    sample_wanted = Signal(object)
    prompts_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("samples")
        self._state: RunState | None = None
        self._may_ask = False
        self.asked = False
        self.table = SampleTable(self)
        self.table.opened.connect(self._read)
        self.table.selectionModel().currentChanged.connect(self._read_on)
        self.reader = SampleReader(self)
        self.reader.closed.connect(self.table.setFocus)
        self.question = QLineEdit(self)
        self.question.setObjectName("sample-question")
        self.question.setPlaceholderText("Ask another prompt")
        words = self.question.fontMetrics().horizontalAdvance(self.question.placeholderText())
        self.question.setMinimumWidth(words + EDGES_PX)
        self.question.setAccessibleName(
            "A custom prompt; leave empty to use the prompts of the project"
        )
        self.question.setClearButtonEnabled(True)
        self.question.returnPressed.connect(self._ask)
        self.now = QPushButton("Sample Now", self)
        self.now.setObjectName("sample-now")
        icons.put(self.now, "message-square")
        self.now.clicked.connect(self._ask)
        self.status = ElidedLabel(self)
        self.status.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._stack = QStackedWidget(self)
        self._stack.addWidget(self._empty())
        self._stack.addWidget(self._grid())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._bar())
        column.addWidget(self._stack, 1)
        tab_order(self.question, self.now, self.table)
        self._show_asking()

    def show_state(self, state: RunState | None) -> None:
        """Show this run; ``None`` shows the empty text."""
        self._state, self.asked = state, False
        self.reader.hide()
        self.refresh()

    def add_events(self, events: Iterable[Event]) -> None:
        """Handle new events, which may contain answers to “Sample Now”."""
        for event in events:
            began = event.name == "Phase" and event.get("phase") == "train"
            if began or event.name in ("Sample", "Notice", "StepFinished", "RunFinished"):
                self.asked = False
        self.refresh()

    def set_may_ask(self, may: bool) -> None:
        """Set whether the shown run is training now."""
        if may != self._may_ask:
            self._may_ask = may
            self.asked = self.asked and may
            self._show_asking()

    def refresh(self) -> None:
        """Show new data."""
        grid = self.grid()
        self.table.show_grid(grid)
        waiting = self._state is not None and self._state.status == "running"
        self._words.setText(f"{EMPTY_TEXT} {WAITING_TEXT}" if waiting else EMPTY_TEXT)
        self._stack.setCurrentIndex(1 if grid.steps else 0)
        self._show_asking()

    def grid(self) -> SampleGrid:
        """The samples of the latest training that generated any."""
        found = [g for g in self._state.samples.values() if g.steps] if self._state else []
        return found[-1] if found else SampleGrid()

    # ------------------------------------------------------------ parts

    def _bar(self) -> QWidget:
        bar = QWidget(self)
        row = QHBoxLayout(bar)
        row.setContentsMargins(10, 6, 10, 6)
        row.setSpacing(8)
        row.addWidget(self.question, 2)
        row.addWidget(self.now)
        row.addWidget(self.status, 3)
        return bar

    def _empty(self) -> QWidget:
        page = QWidget(self)
        self._words = QLabel(EMPTY_TEXT, page)
        self._words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._words.setForegroundRole(self._words.palette().ColorRole.PlaceholderText)
        self._words.setWordWrap(True)
        self.write = QPushButton("Edit Prompts", page)
        self.write.setObjectName("write-prompts")
        self.write.clicked.connect(self.prompts_wanted)
        column = QVBoxLayout(page)
        column.setContentsMargins(24, 8, 24, 12)
        column.addStretch(1)
        column.addWidget(self._words)
        column.addWidget(self.write, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        return page

    def _grid(self) -> QWidget:
        self._split = split = QSplitter(self)
        split.setChildrenCollapsible(False)
        split.addWidget(self.table)
        split.addWidget(self.reader)
        split.setStretchFactor(0, 2)
        split.setStretchFactor(1, 1)
        return split

    # ------------------------------------------------------------ what the user does

    def _ask(self) -> None:
        if not self.now.isEnabled():
            return
        line = self.question.text().strip()
        self.asked = True
        self._show_asking()
        self.sample_wanted.emit([line] if line else [])

    def _show_asking(self) -> None:
        self.now.setEnabled(self._may_ask and not self.asked)
        self.now.setText("Generating…" if self.asked else "Sample Now")
        self.question.setEnabled(self._may_ask)
        self.status.setText(ASKED_TEXT if self.asked else _summary(self.grid()))
        tip = (
            "Generate answers with the current weights"
            if self._may_ask
            else ("Available during training")
        )
        self.now.setToolTip(tip)

    def _read(self, row: int, column: int) -> None:
        sample = self.table.samples.sample(row, column)
        if sample is not None:
            model = self.table.samples
            if self.reader.isHidden():
                self._split.setSizes([self.width() * 3 // 5, self.width() * 2 // 5])
                QTimer.singleShot(SETTLE_MS, self.table, self.table.show_current)
            self.reader.show_sample(model.prompt(row), model.step(column), sample)

    def _read_on(self) -> None:
        """The arrow keys go from answer to answer while the reader is open."""
        at = self.table.currentIndex()
        if at.isValid() and not self.reader.isHidden():
            self._read(at.row(), at.column())


def _summary(grid: SampleGrid) -> str:
    if not grid.steps:
        return ""
    prompts = "1 prompt" if len(grid.prompts) == 1 else f"{len(grid.prompts)} prompts"
    times = "once" if len(grid.steps) == 1 else f"{len(grid.steps)} times"
    return f"{prompts}, sampled {times}. Click an answer to read it in full."
