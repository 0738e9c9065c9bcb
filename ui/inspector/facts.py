"""The facts of a node, such as the size of its model, as a small table under its header.

The facts come from the node type; this file only displays them and reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette, QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QWidget

from studio.graph.node_type import Fact
from ui.style.widgets import TextLabel, clear, plain_tip

_APART_PX = 12


class FactsTable(QFrame):
    """Label and value of each fact, two to a line where there is room; hidden while there are none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("facts")
        self.setAccessibleName("Details")
        self._facts: tuple[Fact, ...] = ()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(_APART_PX)
        self._grid.setVerticalSpacing(3)
        self._pairs: list[tuple[QLabel, QLabel]] = []
        self._columns = 0
        self.hide()

    def show_facts(self, facts: Sequence[Fact]) -> None:
        """Show these facts; the table is not rebuilt if they are unchanged."""
        if tuple(facts) == self._facts:
            return
        self._facts = tuple(facts)
        clear(self._grid)
        self._pairs = [self._pair(fact) for fact in self._facts]
        self._columns = 0
        self._place()
        self.setVisible(bool(self._facts))

    def _pair(self, fact: Fact) -> tuple[QLabel, QLabel]:
        label = QLabel(fact.label, self)
        label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        value = TextLabel(fact.value, self)
        value.setObjectName(f"fact:{fact.label}")
        for text in (label, value):  # both: selectable text is drawn one pixel higher
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        value.setToolTip(plain_tip(fact.value))
        return label, value

    def _place(self) -> None:
        """Put the facts into the grid, unless it is already up to date."""
        columns = self._columns_that_fit()
        if columns == self._columns:
            return
        self._columns = columns
        self._grid.setColumnStretch(1, 1)
        self._grid.setColumnStretch(3, columns - 1)
        for number, (label, value) in enumerate(self._pairs):
            row, column = divmod(number, columns)
            alone = number == len(self._pairs) - 1  # nothing to its right: it may be long
            width = 2 * (columns - column) - 1 if alone else 1
            self._grid.addWidget(label, row, 2 * column, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(value, row, 2 * column + 1, 1, width, Qt.AlignmentFlag.AlignTop)

    def _columns_that_fit(self) -> int:
        """The number of columns: 2 if no value has to wrap, else 1."""
        pairs = self._pairs[:-1]
        labels = [max((p[0].sizeHint().width() for p in pairs[k::2]), default=0) for k in (0, 1)]
        wide = self.fontMetrics().horizontalAdvance
        value = max((wide(p[1].text()) for p in pairs), default=0)
        return 2 if sum(labels) + 2 * value + 3 * _APART_PX <= self.width() else 1

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: another width may have room for two facts on a line."""
        super().resizeEvent(event)
        self._place()
