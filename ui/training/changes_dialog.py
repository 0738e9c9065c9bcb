"""Proposed changes of settings, each with its reason and a check box; the selected ones are applied
as one edit.

It serves “Make it fit” and the recipe. It returns the selected changes and does not edit the
document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ui.style.widgets import MutedLabel, TextLabel, resize_on_screen, scrolling, tab_order

_WIDTH, _HEIGHT, _SIDE = 640, 560, 18
_AROUND = 132
"""Pixels for the sentence above the rows and the buttons below."""


@dataclass(frozen=True)
class ProposedChange:
    """One setting: its node and names, the old and the new value (also as text), the reason, and
    the saved memory."""

    node: str
    field: str
    value: Any
    title: str
    now: str
    then: str
    reason: str
    saves: str = ""


class ChangeRow(QFrame):
    """A check box, the setting with both values, and the reason."""

    def __init__(self, change: ProposedChange, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.change = change
        self.tick = QCheckBox(f"{change.title}: {change.now} → {change.then}", self)
        self.tick.setObjectName(f"change:{change.node}.{change.field}")
        self.tick.setAccessibleDescription(f"{change.reason} {change.saves}".strip())
        self.tick.setChecked(True)
        font = QFont(self.tick.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.tick.setFont(font)
        top = QHBoxLayout()
        top.addWidget(self.tick, 1)
        if change.saves:
            saves = QLabel(change.saves, self)
            saves.setForegroundRole(saves.palette().ColorRole.PlaceholderText)
            top.addWidget(saves)
        reason = MutedLabel(change.reason, self)
        reason.setContentsMargins(26, 0, 0, 0)
        reason.setMinimumHeight(
            reason.fontMetrics().height()
        )  # Qt's own hint is that of wrapped text
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 6)
        column.setSpacing(2)
        column.addLayout(top)
        column.addWidget(reason)


def _kept_row(words: str, reason: str, parent: QWidget) -> QFrame:
    """A value that is set already, and its reason."""
    row = QFrame(parent)
    value = TextLabel(words, row)
    value.setObjectName("kept-value")
    font = QFont(value.font())
    font.setWeight(QFont.Weight.DemiBold)
    value.setFont(font)
    column = QVBoxLayout(row)
    column.setContentsMargins(0, 4, 0, 6)
    column.setSpacing(2)
    column.addWidget(value)
    column.addWidget(MutedLabel(reason, row))
    return row


class ChangesDialog(QDialog):
    """Asks which changes to apply. ``outcome`` describes the effect of the selected ones; ``kept`` are the values
    that are set already, each with its reason."""

    def __init__(
        self,
        title: str,
        sentence: str,
        changes: Sequence[ProposedChange],
        outcome: Callable[[Sequence[ProposedChange]], str],
        parent: QWidget | None = None,
        kept: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self._kept = tuple(kept)
        self.setObjectName("changes")
        self._outcome = outcome
        self.rows = [ChangeRow(change, self) for change in changes]
        self.result_words = TextLabel("", self)
        self.result_words.setObjectName("changes-outcome")
        self.apply = QPushButton("Apply", self)
        self.apply.setObjectName("changes-apply")
        self.apply.setDefault(True)
        self.apply.clicked.connect(self.accept)
        self.apply.setVisible(bool(changes))
        close = QPushButton("Cancel" if changes else "Close", self)
        close.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.addWidget(self.result_words, 1)
        buttons.addWidget(close)
        buttons.addWidget(self.apply)
        column = QVBoxLayout(self)
        column.setContentsMargins(_SIDE, 16, _SIDE, 14)
        column.setSpacing(10)
        column.addWidget(TextLabel(sentence, self))
        column.addWidget(self._list(), 1)
        if not changes:
            close.setDefault(True)
        column.addLayout(buttons)
        tab_order(*(row.tick for row in self.rows), close, self.apply)
        for row in self.rows:
            row.tick.toggled.connect(self._tell)
        self._tell()
        needed = _AROUND + self._rows.heightForWidth(_WIDTH - 2 * _SIDE - 8)
        resize_on_screen(self, _WIDTH, min(_HEIGHT, needed))

    def ticked(self) -> tuple[ProposedChange, ...]:
        """The selected changes, in order."""
        return tuple(row.change for row in self.rows if row.tick.isChecked())

    def _list(self) -> QWidget:
        inside = QWidget(self)
        self._rows = column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(2)
        for row in self.rows:
            column.addWidget(row)
        if self._kept:
            title = TextLabel("Already set:", self)
            title.setContentsMargins(0, 10 if self.rows else 0, 0, 0)
            column.addWidget(title)
        for words, reason in self._kept:
            column.addWidget(_kept_row(words, reason, self))
        column.addStretch(1)
        scroll = scrolling(inside, self)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        return scroll

    def _tell(self) -> None:
        chosen = self.ticked()
        self.result_words.setText(self._outcome(chosen))
        self.apply.setEnabled(bool(chosen))
        self.apply.setText(f"Apply {len(chosen)}" if chosen else "Apply")
