"""The editor of a layer range: a line of text, and from, to and every n-th for most cases.

The text is the setting; the three numbers write it. Errors are shown as Problems of the node.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSpinBox, QWidget

from studio.node_settings.layer_range import LayerRangeError, layer_spans
from ui.style.widgets import NUMBER_LEFT_PX


class BlockRange(QWidget):
    """``first`` and ``last`` are the numbers of the model's blocks; ``edited`` carries the text."""

    edited = Signal(str)

    def __init__(self, first: int, last: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ends = first, last
        self.line = QLineEdit(self)
        self.line.setObjectName("layer-range")
        self.line.setAccessibleName("Layer range")
        self.line.setPlaceholderText("all, last 4, 8-15, 0, 4-7, or 0-30/2")
        self.line.textEdited.connect(self._typed)
        self._from = self._number("from", "First layer", first, last, first)
        self._to = self._number("to", "Last layer", first, last, last)
        self._every = self._number("every", "Every nth layer", 1, max(1, last - first), 1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        for words, box in (("from", self._from), ("to", self._to), ("every", self._every)):
            row.addWidget(QLabel(words, self))
            row.addWidget(box)

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """The focusable controls, in order."""
        return self.line, self._from, self._to, self._every

    def show_text(self, text: str) -> None:
        """Show a range; emits nothing."""
        if self.line.text() != text:
            self.line.setText(text)
        self._show_numbers(text)

    def _number(self, name: str, words: str, least: int, most: int, value: int) -> QSpinBox:
        box = QSpinBox(self)
        box.setObjectName(f"layer-{name}")
        box.setAccessibleName(words)
        box.setRange(least, most)
        box.setValue(value)
        box.lineEdit().setTextMargins(NUMBER_LEFT_PX, 0, 0, 0)
        box.valueChanged.connect(self._set)
        return box

    def _typed(self, text: str) -> None:
        self._show_numbers(text)
        self.edited.emit(text.strip())

    def _show_numbers(self, text: str) -> None:
        first, last = self._ends
        try:
            spans = layer_spans(text, last + 1) if text.strip() else None
        except LayerRangeError:
            return
        if spans is None:
            spans = [range(first, last + 1)]
        if len(spans) > 1 or not spans[0]:
            return  # not expressible as three numbers
        (span,) = spans
        low, high, every = span.start, span.stop - 1, span.step
        for box, value in ((self._from, low), (self._to, high), (self._every, every)):
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)

    def _set(self) -> None:
        """Write the three numbers as text; a first number above the last raises the last, too."""
        low, high, every = self._from.value(), self._to.value(), self._every.value()
        if low > high:
            moved = self._to if self.sender() is self._from else self._from
            low = high = low if moved is self._to else high
            moved.blockSignals(True)
            moved.setValue(low)
            moved.blockSignals(False)
        text = range_words(low, high, every, self._ends)
        self.line.setText(text)
        self.edited.emit(text)


def range_words(low: int, high: int, every: int, ends: tuple[int, int]) -> str:
    """“8-15”, “0-30/2”; empty for every block of the model."""
    if every > 1 and high > low:
        return f"{low}-{high}/{every}"
    if (low, high) == ends:
        return ""
    return f"{low}-{high}" if high > low else str(low)
