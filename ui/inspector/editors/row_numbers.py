"""Rank and alpha of the rows that are selected in the tree; empty fields mean those of the node.

It shows and emits numbers, and does not know their settings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from PySide6.QtCore import Signal, SignalInstance
from PySide6.QtGui import QIntValidator
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QPushButton, QWidget

from ui.style.widgets import MutedLabel

LARGEST = 4096
_DIGITS = 9


class RowNumbers(QWidget):
    """Two numbers and “As the node”. ``rank`` and ``alpha`` carry a number, or 0 for the node's."""

    rank = Signal(int)
    alpha = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._words = MutedLabel("", self)
        self._rank = self._line("rank", "Rank of the selected rows", self.rank)
        self._alpha = self._line("alpha", "Alpha of the selected rows", self.alpha)
        self._reset = QPushButton("Same as &Node", self)
        self._reset.setObjectName("rows-reset")
        self._reset.setAutoDefault(False)
        self._reset.setToolTip("Use the node's rank and alpha for the selected rows")
        self._reset.clicked.connect(self._take_back)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._words, 1)
        for text, line in (("&Rank", self._rank), ("&Alpha", self._alpha)):
            label = QLabel(text, self)
            label.setBuddy(line)
            row.addWidget(label)
            row.addWidget(line)
        row.addWidget(self._reset)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """The focusable controls, in order."""
        return self._rank, self._alpha, self._reset

    def show_rows(
        self,
        count: int,
        ranks: Collection[int | None],
        alphas: Collection[int | None],
        node: tuple[int, int],
        why_not: str,
    ) -> None:
        """Show the numbers of ``count`` rows, ``None`` for the node's; ``why_not`` is the reason if
        they cannot be set."""
        chosen = f"{count:,} selected {'layer' if count == 1 else 'layers'}"
        self._words.setText(why_not or (chosen if count else "Select rows to set their rank."))
        usable = bool(count) and not why_not
        for line, numbers, usual in ((self._rank, ranks, node[0]), (self._alpha, alphas, node[1])):
            line.setEnabled(usable)
            _show(line, set(numbers), usual)
        self._reset.setEnabled(usable and ({*ranks, *alphas} != {None}))

    def _line(self, name: str, words: str, signal: SignalInstance) -> QLineEdit:
        line = QLineEdit(self)
        line.setObjectName(f"rows-{name}")
        line.setAccessibleName(words)
        line.setValidator(QIntValidator(1, LARGEST, line))
        line.setFixedWidth(self.fontMetrics().horizontalAdvance("0") * _DIGITS + 16)
        line.textEdited.connect(lambda text: signal.emit(int(text) if text else 0))
        return line

    def _take_back(self) -> None:
        self.rank.emit(0)
        self.alpha.emit(0)


def _show(line: QLineEdit, numbers: set[int | None], usual: int) -> None:
    one = next(iter(numbers)) if len(numbers) == 1 else None
    text = str(one) if one is not None else ""
    if line.text() != text:  # keep the cursor of a box that is being edited
        line.setText(text)
    line.setPlaceholderText("several" if len(numbers) > 1 else str(usual or ""))


def own_numbers(names: Sequence[str], own: dict[str, int]) -> set[int | None]:
    """The numbers of these rows; ``None`` stands for the node's."""
    return {own.get(name) for name in names}
