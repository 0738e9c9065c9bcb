"""What is known about the thing that a node names, as a small table under the node's header.

The facts come from the node type; this file only lays them out. It must not read files itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QWidget

from studio.graph.node_type import Fact
from ui.inspector.look import TextLabel, retire

_COLUMNS = 2


class FactsTable(QFrame):
    """Label and value of each fact, two to a line; hidden while there are none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("facts")
        self.setAccessibleName("Facts")
        self._facts: tuple[Fact, ...] = ()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(3)
        for column in range(_COLUMNS):
            self._grid.setColumnStretch(2 * column + 1, 1)
        self.hide()

    def show_facts(self, facts: Sequence[Fact]) -> None:
        """Show these facts; the table is left alone while they are the same."""
        if tuple(facts) == self._facts:
            return
        self._facts = tuple(facts)
        while (item := self._grid.takeAt(0)) is not None:
            retire(item.widget())
        for number, fact in enumerate(self._facts):
            self._add(fact, *divmod(number, _COLUMNS), alone=number == len(self._facts) - 1)
        self.setVisible(bool(self._facts))

    def _add(self, fact: Fact, row: int, column: int, *, alone: bool) -> None:
        """``alone``: nothing stands to the right of it, so it may be as long as the table."""
        label = QLabel(fact.label, self)
        label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        value = TextLabel(fact.value, self)
        value.setObjectName(f"fact:{fact.label}")
        value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        value.setToolTip(fact.value)
        self._grid.addWidget(label, row, 2 * column, Qt.AlignmentFlag.AlignTop)
        width = 2 * (_COLUMNS - column) - 1 if alone else 1
        self._grid.addWidget(value, row, 2 * column + 1, 1, width, Qt.AlignmentFlag.AlignTop)
