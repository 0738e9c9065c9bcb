"""The grid of samples: one row for each prompt, one column for each step, answers that wrap.

Why its own item model: answers arrive in batches during training, and unchanged cells must not be
rebuilt. It draws a ``SampleGrid`` and requests nothing.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtCore import Signal as QtSignal
from PySide6.QtGui import QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from studio.runs.samples import Sample, SampleGrid
from ui.style import theme
from ui.style.widgets import plain_tip

Index = QModelIndex | QPersistentModelIndex
CELL_DIGITS = 30
PROMPT_DIGITS = 26
LINES = 4
SHOWN_CHARS = 400
_PADDING_PX = 6
_WRAP = Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop


def right(sample: Sample) -> bool | None:
    """Whether an answer is the expected one; ``None`` where nothing is expected."""
    return sample.text.strip() == sample.expected.strip() if sample.expected else None


def cell_text(sample: Sample) -> str:
    """The text of a cell: one paragraph, with ✓ or ✕ if an answer is expected, and “…” if it was
    truncated."""
    text = " ".join(sample.text[:SHOWN_CHARS].split()) or "(empty)"
    cut = "…" if sample.cut or len(sample.text) > SHOWN_CHARS else ""
    judged = {True: "✓  ", False: "✕  ", None: ""}[right(sample)]
    return f"{judged}{text}{cut}"


class SampleModel(QAbstractTableModel):
    """The item model: a row per prompt, a column per step."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = SampleGrid()
        self._shape: tuple[tuple[str, ...], tuple[int, ...]] = ((), ())

    def show_grid(self, grid: SampleGrid) -> None:
        """Show this grid as it is now."""
        shape = (tuple(grid.prompts), tuple(grid.steps))
        if grid is self._grid and shape == self._shape:
            if grid.prompts and grid.steps:
                last = self.index(len(grid.prompts) - 1, len(grid.steps) - 1)
                self.dataChanged.emit(self.index(0, 0), last)
            return
        self.beginResetModel()
        self._grid, self._shape = grid, shape
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Qt: how many prompts."""
        return 0 if parent.isValid() else len(self._shape[0])

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Qt: how many steps."""
        return 0 if parent.isValid() else len(self._shape[1])

    def prompt(self, row: int) -> str:
        """The prompt of a row."""
        return self._shape[0][row]

    def step(self, column: int) -> int:
        """The step of a column."""
        return self._shape[1][column]

    def column_of(self, step: int) -> int:
        """The column of a step, or -1."""
        return self._shape[1].index(step) if step in self._shape[1] else -1

    def row_of(self, prompt: str) -> int:
        """The row of a prompt, or -1."""
        return self._shape[0].index(prompt) if prompt in self._shape[0] else -1

    def sample(self, row: int, column: int) -> Sample | None:
        """The answer of a cell, if it has come."""
        return self._grid.at(self.prompt(row), self.step(column))

    def expected(self, row: int) -> str:
        """The expected answer to a prompt from a row."""
        prompt = self.prompt(row)
        found = (self._grid.at(prompt, step) for step in self._shape[1])
        return next((s.expected for s in found if s is not None and s.expected), "")

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Qt: what a cell shows."""
        sample = self.sample(index.row(), index.column()) if index.isValid() else None
        if sample is None:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return cell_text(sample)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
        if role == Qt.ItemDataRole.ForegroundRole and right(sample):
            return theme.colors().success
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Qt: steps above; prompts are painted by ``PromptHeader``."""
        if role == Qt.ItemDataRole.ToolTipRole and orientation == Qt.Orientation.Vertical:
            expected = self.expected(section)
            return plain_tip(
                self.prompt(section) + (f"\n\nExpected: {expected}" if expected else "")
            )
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        if orientation == Qt.Orientation.Vertical:
            return self.prompt(section)
        step = self.step(section)
        return "Before training" if step == 0 else f"Step {step:,}"


class PromptHeader(QHeaderView):
    """The prompts at the left, wrapped, each with its expected answer below."""

    def __init__(self, model: SampleModel, parent: QWidget) -> None:
        super().__init__(Qt.Orientation.Vertical, parent)
        self._model = model
        self.setSectionsClickable(False)

    def sizeHint(self) -> QSize:
        """Qt: wide enough for a short question."""
        return QSize(self.fontMetrics().horizontalAdvance("0") * PROMPT_DIGITS, 0)

    def paintSection(self, painter: QPainter, rect: QRect, section: int) -> None:
        """Qt: one prompt."""
        look, lines = theme.colors(), self.fontMetrics()
        painter.save()
        painter.fillRect(rect, look.surface)
        painter.setPen(look.border)
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        painter.drawLine(rect.topRight(), rect.bottomRight())
        inside = rect.adjusted(_PADDING_PX + 2, 4, -_PADDING_PX, -4)
        expected = self._model.expected(section)
        if expected:
            low = inside.adjusted(0, inside.height() - lines.height(), 0, 0)
            expected_text = f"Expected: {' '.join(expected[:SHOWN_CHARS].split())}"
            painter.setPen(look.text_muted)
            painter.drawText(
                low,
                Qt.AlignmentFlag.AlignLeft,
                lines.elidedText(expected_text, Qt.TextElideMode.ElideRight, low.width()),
            )
            inside.adjust(0, 0, 0, -lines.height() - 2)
        painter.setPen(look.text)
        painter.setClipRect(inside)
        prompt = " ".join(self._model.prompt(section)[:SHOWN_CHARS].split())
        painter.drawText(inside, int(_WRAP), prompt)
        painter.restore()


class AnswerCell(QStyledItemDelegate):
    """Paints complete lines only: the style would clip the last one."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Qt: one answer."""
        cell = QStyleOptionViewItem(option)
        self.initStyleOption(cell, index)
        text, cell.text = cell.text, ""
        style, colors = cell.widget.style(), cell.palette
        style.drawControl(style.ControlElement.CE_ItemViewItem, cell, painter, cell.widget)
        chosen = bool(cell.state & style.StateFlag.State_Selected)
        lines = option.fontMetrics
        inside = option.rect.adjusted(_PADDING_PX, 4, -_PADDING_PX, 0)
        inside.setHeight(LINES * lines.lineSpacing())
        painter.save()
        painter.setClipRect(inside)
        painter.setPen(
            colors.color(colors.ColorRole.HighlightedText if chosen else colors.ColorRole.Text)
        )
        painter.drawText(inside, int(_WRAP), text)
        painter.restore()


class SampleTable(QTableView):
    """The view; ``opened`` carries row and column of the cell that the user wants to read."""

    opened = QtSignal(object, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.samples = SampleModel(self)
        self.setModel(self.samples)
        self.setAccessibleName("Answers by prompt and step")
        self.setWordWrap(True)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setItemDelegate(AnswerCell(self))
        self.setVerticalHeader(PromptHeader(self.samples, self))
        self.setCornerButtonEnabled(False)
        self.setTabKeyNavigation(False)
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        digit = self.fontMetrics().horizontalAdvance("0")
        header.setDefaultSectionSize(digit * CELL_DIGITS)
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().lineSpacing() * LINES + 10)
        self.clicked.connect(self._open)

    def show_grid(self, grid: SampleGrid) -> None:
        """Show a grid; scroll to the newest column if the last one was visible, and keep the
        selection."""
        bar, at = self.horizontalScrollBar(), self.currentIndex()
        follows = bar.value() >= bar.maximum()
        chosen = (
            (self.samples.prompt(at.row()), self.samples.step(at.column()))
            if at.isValid() and at.row() < self.samples.rowCount()
            else None
        )
        columns = self.samples.columnCount()
        self.samples.show_grid(grid)
        if chosen is not None and not self.currentIndex().isValid():
            row, column = self.samples.row_of(chosen[0]), self.samples.column_of(chosen[1])
            if row >= 0 and column >= 0:
                self.selectionModel().setCurrentIndex(
                    self.samples.index(row, column),
                    self.selectionModel().SelectionFlag.ClearAndSelect,
                )
        if follows and self.samples.columnCount() != columns:
            self.updateGeometries()
            bar.setValue(bar.maximum())

    def show_current(self) -> None:
        """Scroll to the selected cell."""
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Enter reads the chosen cell."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self._open(self.currentIndex())
            return
        super().keyPressEvent(event)

    def _open(self, index: Index) -> None:
        if self.samples.sample(index.row(), index.column()) is not None:
            self.opened.emit(index.row(), index.column())
