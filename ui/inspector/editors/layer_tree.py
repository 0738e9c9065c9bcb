"""A tree of linear layers in groups, with check boxes; a group is checked, partially checked or
unchecked.

The keyboard does all of it: arrows, and the space bar ticks every selected row. A checked row
without an adapter (outside the range, or excluded) is grey. It knows rows, not settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFont, QKeyEvent, QPalette
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from studio.model.shapes import Linear
from ui.inspector.editors.layers import shape_words
from ui.style.widgets import child_items, plain_tip, row_size, top_items

COLUMNS = ("Layer", "Layers", "In → out", "Rank", "Alpha", "Trained")
NAME, COUNT, SHAPE, RANK, ALPHA, TRAINED = range(len(COLUMNS))
_NUMBER = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_ROWS = Qt.ItemDataRole.UserRole
_DIGITS = (0, 11, 20, 9, 9, 14)
_ON, _OFF = Qt.CheckState.Checked, Qt.CheckState.Unchecked

Words = Callable[[Sequence[Linear]], tuple[str, str, str, set[str]]]
"""Rank, alpha and trained parameters of rows; ``rank`` and ``alpha`` where they are the rows' own."""


class LayerTree(QTreeWidget):
    """Groups on top, their layers below. ``ticked`` carries the names after a tick by hand."""

    ticked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("layers")
        self.setAccessibleName("Linear layers of the model")
        self.setHeaderLabels(COLUMNS)
        self.setUniformRowHeights(True)
        self.setTextElideMode(Qt.TextElideMode.ElideLeft)  # the end of a name tells layers apart
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        digit = self.fontMetrics().horizontalAdvance("0")
        for column in range(COUNT, len(COLUMNS)):
            self.setColumnWidth(column, digit * _DIGITS[column])
            self.headerItem().setTextAlignment(column, _NUMBER)
        self._members: dict[int, list[Linear]] = {}
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self._tell_ticks)
        self.itemChanged.connect(self._changed)

    def show_groups(self, groups: Mapping[str, Sequence[Linear]], checked: set[str]) -> None:
        """Show these groups with these rows ticked."""
        self.blockSignals(True)
        self.clear()
        self._members = {}
        for title, rows in groups.items():
            top = self._item(title, rows)
            top.setFlags(top.flags() | Qt.ItemFlag.ItemIsAutoTristate)
            for row in rows:
                item = self._item(row.name, [row])
                item.setCheckState(NAME, _ON if row.name in checked else _OFF)
                top.addChild(item)
            self.addTopLevelItem(top)
        self.blockSignals(False)
        for first in top_items(self)[:1]:
            self.setCurrentItem(first)

    def check(self, checked: set[str]) -> None:
        """Check exactly these rows; emits nothing."""
        self.blockSignals(True)
        for item in self._leaves():
            state = _ON if self.rows_of(item)[0].name in checked else _OFF
            if item.checkState(NAME) != state:
                item.setCheckState(NAME, state)
        self.blockSignals(False)
        self.viewport().update()

    def show_numbers(self, adapted: set[str], words: Words) -> None:
        """Show the number of adapted layers of each row, with rank, alpha and parameters."""
        self.blockSignals(True)
        muted = self.palette().brush(QPalette.ColorRole.PlaceholderText)
        plain = self.palette().brush(QPalette.ColorRole.Text)
        for top in top_items(self):
            self._tell(top, adapted, words, True, plain)
            for child in child_items(top):
                grey = self.rows_of(child)[0].name not in adapted
                self._tell(child, adapted, words, False, muted if grey else plain)
        self.blockSignals(False)
        self.viewport().update()

    def checked(self) -> set[str]:
        """The names of the checked rows."""
        return {self.rows_of(i)[0].name for i in self._leaves() if i.checkState(NAME) == _ON}

    def picked(self) -> list[Linear]:
        """The rows that are selected, those of selected groups included."""
        found = {r.name: r for item in self.selectedItems() for r in self.rows_of(item)}
        return list(found.values())

    def rows_of(self, item: QTreeWidgetItem) -> list[Linear]:
        """The rows that an item stands for."""
        return self._members[item.data(NAME, _ROWS)]

    def filter(self, text: str) -> None:
        """Show only layers whose name, or whose group's, holds the text."""
        wanted = text.strip().lower()
        for top in top_items(self):
            group_matches = wanted in top.text(NAME).lower()
            shown = 0
            for child in child_items(top):
                hidden = not group_matches and wanted not in child.text(NAME).lower()
                child.setHidden(hidden)
                shown += not hidden
            top.setHidden(not shown)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: the space bar toggles all selected rows together."""
        items = self.selectedItems()
        if event.key() != Qt.Key.Key_Space or len(items) < 2:
            super().keyPressEvent(event)
            return
        state = _OFF if all(i.checkState(NAME) == _ON for i in items) else _ON
        self.blockSignals(True)
        for item in items:
            item.setCheckState(NAME, state)
        self.blockSignals(False)
        self._tell_ticks()

    def _changed(self, item: QTreeWidgetItem, column: int) -> None:
        """Toggling a group toggles each of its rows: emit one signal for all, shortly after."""
        if column == NAME:
            self._soon.start()

    def flush(self) -> None:
        """Emit a pending signal immediately."""
        if self._soon.isActive():
            self._soon.stop()
            self._tell_ticks()

    def _tell_ticks(self) -> None:
        self.ticked.emit(self.checked())

    def _item(self, title: str, rows: Sequence[Linear]) -> QTreeWidgetItem:
        item = QTreeWidgetItem([title, "", shape_words(rows), "", "", ""])
        key = len(self._members)
        self._members[key] = list(rows)
        item.setData(NAME, _ROWS, key)
        item.setSizeHint(NAME, row_size(self))
        item.setToolTip(NAME, plain_tip(title))
        for column in range(COUNT, len(COLUMNS)):
            item.setTextAlignment(column, _NUMBER)
        return item

    def _tell(
        self, item: QTreeWidgetItem, adapted: set[str], words: Words, group: bool, brush: object
    ) -> None:
        rows = self.rows_of(item)
        there = [r for r in rows if r.name in adapted]
        rank, alpha, trained, own = words(there)
        count = f"{len(there)} of {len(rows)}" if group else ""
        for column, text in ((COUNT, count), (RANK, rank), (ALPHA, alpha), (TRAINED, trained)):
            item.setText(column, text)
        plain, bold = QFont(self.font()), QFont(self.font())
        bold.setBold(True)
        for column in range(len(COLUMNS)):
            item.setForeground(column, brush)  # type: ignore[arg-type]
        for column, name in ((RANK, "rank"), (ALPHA, "alpha")):
            item.setFont(column, bold if name in own else plain)

    def _leaves(self) -> Iterator[QTreeWidgetItem]:
        for top in top_items(self):
            yield from child_items(top)
