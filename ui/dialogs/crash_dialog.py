"""The dialog for a bug: a sentence, the trace on demand, and a button to copy it.

It only shows text and writes no logs.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ui.style import icons, theme
from ui.style.widgets import MutedLabel, TextLabel, icon_side

_DIGITS, _LINES = 78, 14


class CrashDialog(QDialog):
    """Title, sentence and hint; the details can be expanded and copied."""

    def __init__(
        self, title: str, sentence: str, hint: str, details: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAccessibleDescription(f"{sentence} {hint}")
        self._details = self._make_details(details)
        self._show = QPushButton("Show Details", self)
        self._show.setObjectName("details")
        self._show.setCheckable(True)
        self._show.setAutoDefault(False)
        self._show.toggled.connect(self._fold)
        self._copy = QPushButton("Copy Details", self)
        self._copy.setObjectName("copy")
        self._copy.setAutoDefault(False)
        self._copy.clicked.connect(self._copy_details)
        close = QPushButton("Close", self)
        close.setObjectName("close")
        close.setDefault(True)
        close.clicked.connect(self.accept)
        self._buttons = QHBoxLayout()
        for button in (self._show, self._copy):
            self._buttons.addWidget(button)
        self._buttons.addStretch(1)
        self._buttons.addWidget(close)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(14)
        column.addLayout(self._top(sentence, hint))
        column.addWidget(self._details, 1)
        column.addLayout(self._buttons)
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance("0") * _DIGITS)
        close.setFocus()

    def add_button(self, words: str) -> QPushButton:
        """Add a button on the left, such as “Show log”."""
        button = QPushButton(words, self)
        button.setAutoDefault(False)
        self._buttons.insertWidget(2, button)
        return button

    def _top(self, sentence: str, hint: str) -> QHBoxLayout:
        sign = QLabel(self)
        color = theme.colors().danger
        sign.setPixmap(
            icons.pixmap("circle-alert", icon_side(self, 2.0), color, self.devicePixelRatioF())
        )
        headline = TextLabel(sentence, self)
        headline.setObjectName("sentence")
        headline.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        font = headline.font()
        font.setBold(True)
        headline.setFont(font)
        words = QVBoxLayout()
        words.setSpacing(6)
        words.addWidget(headline)
        words.addWidget(MutedLabel(hint, self))
        words.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(14)
        top.addWidget(sign, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(words, 1)
        return top

    def _make_details(self, details: str) -> QPlainTextEdit:
        box = QPlainTextEdit(details, self)
        box.setObjectName("trace")
        box.setAccessibleName("Details of the error")
        box.setReadOnly(True)
        box.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        box.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        box.setMinimumHeight(self.fontMetrics().lineSpacing() * _LINES)
        box.hide()
        return box

    def _fold(self, shown: bool) -> None:
        self._show.setText("Hide Details" if shown else "Show Details")
        self._details.setVisible(shown)
        self.adjustSize()

    def _copy_details(self) -> None:
        QGuiApplication.clipboard().setText(self._details.toPlainText())
        self._copy.setText("Copied")
