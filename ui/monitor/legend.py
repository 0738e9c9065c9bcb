"""The legend above a plot: its title, and for every curve a sample of its line, its name and a
value.

The values follow the crosshair, else they are the last ones. It is a separate widget because text
in the plot would cover curves.
"""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui.monitor import style
from ui.style.widgets import plain_tip

SAMPLE_PX = 18
GAP_PX = 5
ENTRY_GAP_PX = 12
MARKER_PX = 6
RESTING = ("both", "name", "value", "none")  # tried in this order until it fits
READING = ("both", "value", "none")


@dataclass
class Entry:
    """One curve in the legend; ``color`` counts in the theme's series colours."""

    label: str
    color: int
    dash: str = "solid"
    marker: str = ""
    faint: bool = False
    value: str = ""


class LegendRow(QWidget):
    """Title and curves in one line; names are hidden, then values, if there is not enough space."""

    def __init__(self, title: str, entries: list[Entry], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._where = ""
        self._entries = entries
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._tell()

    def set_values(self, values: list[str], where: str = "") -> None:
        """Show a value per curve, in the order of the curves, and where they were read."""
        if [e.value for e in self._entries] == values and where == self._where:
            return
        for entry, value in zip(self._entries, values, strict=True):
            entry.value = value
        self._where = where
        self._tell()
        self.update()

    def text(self) -> str:
        """The legend as text, for screen readers and tests."""
        parts = [f"{e.label} {e.value}".strip() for e in self._entries if not e.faint]
        return f"{self._title} {self._where}: " + ", ".join(parts)

    def sizeHint(self) -> QSize:
        """One line of text high."""
        return QSize(120, QFontMetricsF(self.font()).height().__ceil__() + 6)

    def minimumSizeHint(self) -> QSize:
        """No minimum width; see ``paintEvent``."""
        return QSize(40, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Title left, entries right, as many words as fit."""
        del event
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        look = style.look()
        bold = QFont(self.font())
        bold.setWeight(QFont.Weight.DemiBold)
        painter.setFont(bold)
        painter.setPen(look.text)
        title = f"{self._title}  {self._where}".strip()
        taken = QFontMetricsF(bold).horizontalAdvance(title) + ENTRY_GAP_PX
        painter.drawText(
            QRectF(8, 0, self.width(), self.height()), Qt.AlignmentFlag.AlignVCenter, title
        )
        painter.setFont(self.font())
        self._paint_entries(painter, self.width() - taken - 16)
        painter.end()

    def _paint_entries(self, painter: QPainter, room: float) -> None:
        metrics = QFontMetricsF(self.font())
        shown = [e for e in self._entries if not e.faint]
        for words in READING if self._where else RESTING:
            texts = [_words(e, words, len(shown)) for e in shown]
            widths = [SAMPLE_PX + GAP_PX + metrics.horizontalAdvance(t) for t in texts]
            total = sum(widths) + ENTRY_GAP_PX * (len(shown) - 1)
            if total <= room or words == "none":
                break
        left = self.width() - total - 8
        for entry, text, width in zip(shown, texts, widths, strict=True):
            self._paint_entry(painter, entry, text, QRectF(left, 0, width, self.height()))
            left += width + ENTRY_GAP_PX

    def _paint_entry(self, painter: QPainter, entry: Entry, text: str, area: QRectF) -> None:
        look = style.look()
        color = QColor(look.series[entry.color])
        painter.setPen(QPen(color, 2, style.DASHES[entry.dash]))
        middle = area.center().y()
        painter.drawLine(QPointF(area.left(), middle), QPointF(area.left() + SAMPLE_PX, middle))
        if entry.marker:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color)
            center = QPointF(area.left() + SAMPLE_PX / 2, middle)
            painter.drawEllipse(center, MARKER_PX / 2, MARKER_PX / 2)
        painter.setPen(look.text_muted)
        painter.drawText(
            area.adjusted(SAMPLE_PX + GAP_PX, 0, 2, 0), Qt.AlignmentFlag.AlignVCenter, text
        )

    def _tell(self) -> None:
        self.setAccessibleName(self.text())
        self.setToolTip(plain_tip(self.text()))


def _words(entry: Entry, words: str, count: int) -> str:
    if words == "none":
        return ""
    if words == "name" and count > 1:
        return entry.label
    if words == "value" or count == 1:
        return entry.value or entry.label
    return f"{entry.label} {entry.value}".strip()
