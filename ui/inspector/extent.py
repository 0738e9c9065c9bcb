"""The switch between the essential settings of a node and all of them."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QToolButton, QWidget

ESSENTIAL, ALL = "Essential", "All"
_TIPS = {
    ESSENTIAL: "Show the settings that most trainings need, and those that were changed",
    ALL: "Show all settings that apply",
}


class ExtentSwitch(QWidget):
    """Two buttons, one of which is pressed; ``chosen`` carries whether it is All."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Shown settings")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addStretch(1)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QToolButton] = {}
        for words in (ESSENTIAL, ALL):
            button = QToolButton(self)
            button.setObjectName(f"show:{words.lower()}")
            button.setText(words)
            button.setToolTip(_TIPS[words])
            button.setAccessibleDescription(_TIPS[words])
            button.setCheckable(True)
            self._group.addButton(button)
            self._buttons[words] = button
            row.addWidget(button)
        self._buttons[ALL].toggled.connect(self.chosen.emit)

    def show_choice(self, all_settings: bool) -> None:
        """Press a button without a signal."""
        self.blockSignals(True)
        self._buttons[ALL if all_settings else ESSENTIAL].setChecked(True)
        self.blockSignals(False)
