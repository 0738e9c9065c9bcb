"""What a mixed adapter consists of: shares and cosines of its sources, and the loss of each combination of weights.

The row with the lowest loss is bold and says so in words.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import (
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from studio.export_folder.mixture import Table
from ui.monitor.table_look import read_only_rows
from ui.style.widgets import plain_tip


class MixtureTables(QWidget):
    """The tables of all mixed adapters of a run, below each other."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[tuple[str, Table], ...] = ()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(8, 4, 8, 8)
        self._column.setSpacing(4)

    def show_tables(self, tables: Sequence[tuple[str, Table]]) -> None:
        """Show these tables, each with the title of its node."""
        if tuple(tables) == self._shown:
            return
        self._shown = tuple(tables)
        while (item := self._column.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for node, table in self._shown:
            head = QLabel(f"{node}: {table.title}", self)
            grid = _grid(table, self)
            head.setBuddy(grid)
            grid.setAccessibleName(head.text())
            self._column.addWidget(head)
            self._column.addWidget(grid)


def _grid(table: Table, parent: QWidget) -> QTableWidget:
    grid = QTableWidget(len(table.rows), len(table.head), parent)
    grid.setHorizontalHeaderLabels([h[:1].upper() + h[1:] for h in table.head])
    read_only_rows(grid)
    for number, row in enumerate(table.rows):
        for column, text in enumerate(row):
            item = QTableWidgetItem(text)
            item.setToolTip(plain_tip(text))
            if number == table.marked:
                font = item.font()
                font.setBold(True)
                item.setFont(font)
            grid.setItem(number, column, item)
    header = grid.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    height = header.sizeHint().height() + sum(grid.rowHeight(i) for i in range(len(table.rows)))
    bar = grid.horizontalScrollBar().sizeHint().height()
    grid.setMinimumHeight(height + bar + 2 * grid.frameWidth())
    grid.setMaximumHeight(height + bar + 2 * grid.frameWidth())
    return grid
