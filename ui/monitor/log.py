"""The log of a run: what happened, in plain words with times; filter, search and copy.

Lines come in batches of events and are appended together; the oldest are removed. It never reads a
file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QColor, QFontDatabase, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from studio.events import Event
from ui.monitor.log_lines import LEVELS, Level, LogLine, LogWriter
from ui.style import icons, theme

MAX_LINES = 20_000
PART = 1000
EMPTY_TEXT = "The log of a run appears here."
FILTERS: tuple[tuple[str, Level], ...] = (
    ("Everything", "detail"),
    ("Main events", "info"),
    ("Warnings and errors", "warning"),
    ("Errors", "error"),
)


class LogPanel(QWidget):
    """The lines of one run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._writer = LogWriter()
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._waiting: deque[Event] = deque()
        self._next_part = QTimer(self, singleShot=True, interval=0)
        self._next_part.timeout.connect(self._add_part)
        self.level = QComboBox(self)
        for title, level in FILTERS:
            self.level.addItem(title, level)
        self.level.setCurrentIndex(1)
        self.level.setAccessibleName("Log level")
        self.level.currentIndexChanged.connect(self._show_again)
        self.search = QLineEdit(self)
        self.search.setPlaceholderText("Find in the log")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Find in the log")
        self.search.setMaximumWidth(320)
        self.search.textChanged.connect(self._show_again)
        self.copy = QToolButton(self)
        self.copy.setToolTip("Copy the selected lines, or all visible lines")
        self.copy.setAccessibleName("Copy")
        icons.put(self.copy, "copy")
        self.copy.clicked.connect(self.copy_lines)
        self.text = self._text()
        self._lay_out()
        theme.changed.connect(self._show_again)

    def _text(self) -> QPlainTextEdit:
        text = QPlainTextEdit(self)
        text.setReadOnly(True)
        text.setMaximumBlockCount(MAX_LINES)
        text.setUndoRedoEnabled(False)
        text.setPlaceholderText(EMPTY_TEXT)
        text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        text.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        text.setStyleSheet("QPlainTextEdit { border: none; border-radius: 0; padding: 2px 4px; }")
        text.setAccessibleName("Log")
        text.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        return text

    def _lay_out(self) -> None:
        bar = QHBoxLayout()
        bar.setContentsMargins(6, 4, 6, 4)
        bar.setSpacing(8)
        bar.addWidget(self.level)
        bar.addWidget(self.search, 1)
        bar.addStretch(1)
        bar.addWidget(self.copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(bar)
        layout.addWidget(self.text, 1)

    def start(self) -> None:
        """Clear the log for another run."""
        self._writer = LogWriter()
        self._waiting.clear()
        self._next_part.stop()
        self._lines.clear()
        self.text.clear()

    def add_events(self, events: Iterable[Event]) -> None:
        """The lines of a batch of events; of a long batch, a part each time the window is idle."""
        self._waiting.extend(events)
        if not self._next_part.isActive():
            self._add_part()

    def _add_part(self) -> None:
        count = min(PART, len(self._waiting))
        events = [self._waiting.popleft() for _ in range(count)]
        fresh = [line for event in events for line in self._writer.lines(event)]
        self._lines.extend(fresh)
        self._append([line for line in fresh if self._wanted(line)])
        if self._waiting:
            self._next_part.start()

    def add_note(self, line: LogLine) -> None:
        """Add a line without an event (the window could not start a run)."""
        self._lines.append(line)
        if self._wanted(line):
            self._append([line])

    def lines(self) -> list[str]:
        """The shown lines."""
        text = self.text.toPlainText()
        return text.split("\n") if text else []

    def copy_lines(self) -> None:
        """Copy the selection, or everything that is shown."""
        chosen = self.text.textCursor().selection().toPlainText()
        QApplication.clipboard().setText(chosen or self.text.toPlainText())

    def _wanted(self, line: LogLine) -> bool:
        lowest = LEVELS.index(self.level.currentData())
        sought = self.search.text().strip().lower()
        return LEVELS.index(line.level) >= lowest and sought in line.shown().lower()

    def _show_again(self) -> None:
        self.text.clear()
        self._append([line for line in self._lines if self._wanted(line)])

    def _append(self, lines: list[LogLine]) -> None:
        if not lines:
            return
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        cursor = QTextCursor(self.text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        first = self.text.document().isEmpty()
        for line in lines:
            if not first:
                cursor.insertBlock()
            first = False
            cursor.insertText(line.shown(), _format(line.level))
        cursor.endEditBlock()
        if at_end:
            bar.setValue(bar.maximum())


def _format(level: Level) -> QTextCharFormat:
    look = theme.colors()
    colors: dict[Level, QColor] = {
        "detail": look.text_muted,
        "info": look.text,
        "warning": look.warning,
        "error": look.danger,
    }
    made = QTextCharFormat()
    made.setForeground(colors[level])
    return made
