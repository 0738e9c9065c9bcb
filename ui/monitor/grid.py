"""The small plots: all in a grid if there is enough height, else one at a time with buttons, or a list.

Why: a bottom dock of 250 pixels is too small for four readable plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ui.monitor.plot import LivePlot

GRID_FROM_HEIGHT_PX = 290
COLUMNS = 2
SPACE_PX, MARGINS_PX = 2, 8


class PlotGrid(QWidget):
    """Arranges plots by the available space."""

    def __init__(self, plots: Sequence[LivePlot], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plots = tuple(plots)
        self._buttons = QButtonGroup(self)
        self._bar = self._make_bar()
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        for column in range(COLUMNS):
            self._grid.setColumnStretch(column, 1)
        for index, plot in enumerate(self._plots):
            self._grid.addWidget(plot, index // COLUMNS, index % COLUMNS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._bar)
        layout.addLayout(self._grid, 1)
        self._buttons.idClicked.connect(self._arrange)
        self.setMinimumWidth(160)

    def _make_bar(self) -> QWidget:
        bar = QWidget(self)
        row = QHBoxLayout(bar)
        row.setContentsMargins(MARGINS_PX // 2, 0, MARGINS_PX // 2, 0)
        row.setSpacing(SPACE_PX)
        self._list = QComboBox(bar)  # where there is no room for the buttons
        self._list.setAccessibleName("Plot")
        self._list.addItems([plot.spec.title for plot in self._plots])
        self._list.activated.connect(self._listed)
        row.addWidget(self._list)
        for index, plot in enumerate(self._plots):
            button = QToolButton(bar)
            button.setText(plot.spec.title)
            button.setCheckable(True)
            button.setAutoRaise(True)
            self._buttons.addButton(button, index)
            row.addWidget(button)
        row.addStretch(1)
        self._buttons.button(0).setChecked(True)
        return bar

    def resizeEvent(self, event: Any) -> None:
        """Switch between grid and one plot."""
        super().resizeEvent(event)
        self._arrange()

    def _listed(self, index: int) -> None:
        self._buttons.button(index).setChecked(True)
        self._arrange()

    def _arrange(self) -> None:
        roomy = self.height() >= GRID_FROM_HEIGHT_PX
        self._bar.setVisible(not roomy)
        buttons = self._buttons.buttons()
        narrow = self.width() < sum(b.sizeHint().width() + SPACE_PX for b in buttons) + MARGINS_PX
        self._list.setVisible(narrow)
        for button in buttons:
            button.setVisible(not narrow)
        chosen = self._buttons.checkedId()
        self._list.setCurrentIndex(chosen)
        for index, plot in enumerate(self._plots):
            plot.setVisible(roomy or index == chosen)
