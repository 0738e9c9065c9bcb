"""One sample in full, next to the grid: prompt, answer, expected answer, and a button to copy it.

It is a pane, so that the next cell can be read with one key.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.runs.samples import Sample
from studio.system.number_text import duration
from ui.monitor.sample_table import right
from ui.style import icons
from ui.style.widgets import IconButton, MutedLabel


class SampleReader(QWidget):
    """Hidden until a cell is opened; ``closed`` is emitted when it is hidden again."""

    closed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._answer = ""
        self._title = QLabel(self)
        self._title.setObjectName("sample-title")
        self._facts = MutedLabel("", self)
        self._facts.setObjectName("sample-facts")
        self.text = QPlainTextEdit(self)
        self.text.setObjectName("sample-text")
        self.text.setAccessibleName("Prompt and answer")
        self.text.setReadOnly(True)
        self.copy = QPushButton("Copy Answer", self)
        self.copy.setObjectName("sample-copy")
        icons.put(self.copy, "copy")
        self.copy.clicked.connect(self._copy)
        self._cross = IconButton("x", "Close", self)
        self._cross.clicked.connect(self.put_away)
        top = QHBoxLayout()
        top.addWidget(self._title, 1)
        top.addWidget(self.copy)
        top.addWidget(self._cross)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(4)
        column.addLayout(top)
        column.addWidget(self._facts)
        column.addWidget(self.text, 1)
        self.hide()

    def show_sample(self, prompt: str, step: int, sample: Sample) -> None:
        """Show one answer."""
        self._answer = sample.text
        self._title.setText("Before training" if step == 0 else f"Step {step:,}")
        self._facts.setText(facts_of(sample))
        expected = f"\n\nExpected\n{sample.expected}" if sample.expected else ""
        answer = sample.text or "(empty)"
        text = f"Prompt\n{prompt}\n\nAnswer\n{answer}{expected}"
        if text != self.text.toPlainText():
            self.text.setPlainText(text)
        self.show()

    def put_away(self) -> None:
        """Hide it."""
        self.hide()
        self.closed.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Escape closes it."""
        if event.key() == Qt.Key.Key_Escape:
            self.put_away()
            return
        super().keyPressEvent(event)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._answer)


def facts_of(sample: Sample) -> str:
    """Facts about an answer in one line."""
    count = "1 token" if sample.tokens == 1 else f"{sample.tokens} tokens"
    facts = [count, duration(sample.seconds)]
    if sample.cut:
        facts.append("truncated at the maximum number of new tokens")
    judged = {True: "matches", False: "does not match", None: ""}[right(sample)]
    return ", ".join([*facts, judged] if judged else facts) + "."
