"""A question with named answers: a sentence, a line of detail, and descriptive buttons.

It is the base of the small dialogs and only returns the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ui.style import icons, theme
from ui.style.widgets import MutedLabel, TextLabel, fit, icon_side

_WIDTH_IN_DIGITS = 58


@dataclass(frozen=True)
class Choice:
    """One answer: its ID, its label, and whether it is the default or the cautious one."""

    id: str
    words: str
    default: bool = False


class ChoiceDialog(QDialog):
    """Asks, and keeps the id of the answer in ``chosen``; Escape gives the last choice."""

    def __init__(
        self,
        title: str,
        sentence: str,
        detail: str,
        choices: Sequence[Choice],
        icon: str = "circle-question-mark",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setAccessibleDescription(f"{sentence} {detail}".strip())
        self.chosen = choices[-1].id
        side = icon_side(self, 2.0)
        sign = QLabel(self)
        color = theme.colors().accent
        sign.setPixmap(icons.pixmap(icon, side, color, self.devicePixelRatioF()))
        words = QVBoxLayout()
        words.setSpacing(6)
        words.addWidget(self._headline(sentence))
        words.addWidget(MutedLabel(detail, self))
        words.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(14)
        top.addWidget(sign, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(words, 1)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        for choice in reversed(choices):
            buttons.addWidget(self._button(choice))
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(18)
        column.addLayout(top)
        column.addLayout(buttons)
        fit(self, column, _WIDTH_IN_DIGITS)

    def ask(self) -> str:
        """Show the question and return the id of the answer."""
        self.exec()
        self.deleteLater()
        return self.chosen

    def _headline(self, sentence: str) -> QLabel:
        label = TextLabel(sentence, self)
        label.setObjectName("sentence")
        font = label.font()
        font.setWeight(QFont.Weight.DemiBold)
        label.setFont(font)
        return label

    def _button(self, choice: Choice) -> QPushButton:
        button = QPushButton(choice.words, self)
        button.setObjectName(choice.id)
        button.setAutoDefault(True)
        if choice.default:
            button.setDefault(True)
            button.setFocus()
        button.clicked.connect(lambda checked=False, answer=choice.id: self._take(answer))
        return button

    def _take(self, answer: str) -> None:
        self.chosen = answer
        self.accept()


def tell(title: str, sentence: str, detail: str, parent: QWidget | None = None) -> None:
    """Show a message. Unlike those of ``QMessageBox``, its texts are shown as they are written."""
    close = (Choice("close", "Close", default=True),)
    ChoiceDialog(title, sentence, detail, close, "triangle-alert", parent).ask()
