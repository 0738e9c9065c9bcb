"""How long the rows are: bars by length in tokens, with the line behind which rows are cut.

Painted by hand; it shows a ``studio.data_report.Histogram`` and must not count anything itself.
"""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from studio.data_report import Histogram
from ui import theme

_HEIGHT_PX = 150
_PAD_PX = 6.0
_LABEL_GAP_PX = 8.0
_LEAST_BAR_PX = 2.0


class LengthHistogram(QWidget):
    """One bar for each bin; bins behind the max length are hatched."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("length-histogram")
        self._shown = Histogram()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_histogram(self, shown: Histogram) -> None:
        """Show these lengths."""
        self._shown = shown
        self.setAccessibleName("Length of the rows")
        self.setAccessibleDescription(caption(shown))
        self.setVisible(bool(shown.counts))
        self.update()

    def sizeHint(self) -> QSize:
        """Qt: room for bars and two lines of words."""
        return QSize(280, _HEIGHT_PX)

    def bar_of(self, index: int) -> QRectF:
        """Where the bar of a bin is drawn."""
        area = self._area()
        width = area.width() / max(1, len(self._shown.counts))
        count = self._shown.counts[index]
        share = count / max(self._shown.counts)
        height = max(_LEAST_BAR_PX, share * area.height()) if count else 0.0
        left = area.left() + index * width
        return QRectF(left + 0.5, area.bottom() - height, max(1.0, width - 1), height)

    def _area(self) -> QRectF:
        line = QFontMetricsF(self.font()).height()
        whole = QRectF(self.rect()).adjusted(_PAD_PX, line + 4, -_PAD_PX, -(line + 4))
        return whole

    def _is_cut(self, index: int) -> bool:
        return bool(self._shown.max_length) and self._shown.edges[index] > self._shown.max_length

    def _line_at(self) -> float:
        """Where the max length is, from left to right; the right end when all rows are shorter."""
        shown, area = self._shown, self._area()
        width = area.width() / max(1, len(shown.counts))
        cut = [i for i in range(len(shown.counts)) if self._is_cut(i)]
        return area.left() + (cut[0] if cut else len(shown.counts)) * width

    # ------------------------------------------------------------ Qt

    def paintEvent(self, event: QPaintEvent) -> None:
        """Bars, the line, numbers."""
        del event
        if not self._shown.counts or not any(self._shown.counts):
            return
        painter = QPainter(self)
        painter.setFont(self.font())
        for index in range(len(self._shown.counts)):
            self._paint_bar(painter, index)
        self._paint_axis(painter)
        self._paint_line(painter)
        painter.end()

    def _paint_bar(self, painter: QPainter, index: int) -> None:
        look, place = theme.colors(), self.bar_of(index)
        if not self._is_cut(index):
            painter.fillRect(place, look.series[0])
            return
        painter.fillRect(place, theme.blend(look.background, look.danger, 0.3))
        painter.fillRect(place, QBrush(QColor(look.danger), Qt.BrushStyle.BDiagPattern))

    def _paint_axis(self, painter: QPainter) -> None:
        look, area, edges = theme.colors(), self._area(), self._shown.edges
        painter.setPen(look.border_strong)
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.setPen(look.text_muted)
        metrics = QFontMetricsF(self.font())
        width, free = area.width() / max(1, len(edges) - 1), area.left() - 100.0
        last = str(edges[-1] - 1)
        end = area.right() - metrics.horizontalAdvance(last)
        for index, edge in enumerate(edges[:-1]):
            text, left = str(edge), area.left() + index * width
            wide = metrics.horizontalAdvance(text)
            if left < free or left + wide + _LABEL_GAP_PX > end:
                continue
            free = left + wide + _LABEL_GAP_PX
            painter.drawText(QRectF(left, area.bottom() + 3, wide + 2, 40), 0, text)
        painter.drawText(QRectF(end, area.bottom() + 3, 200, 40), 0, last)

    def _paint_line(self, painter: QPainter) -> None:
        look, area, x = theme.colors(), self._area(), self._line_at()
        painter.setPen(QPen(look.danger if self._shown.cut else look.text_muted, 2))
        painter.drawLine(int(x), int(area.top() - 4), int(x), int(area.bottom()))
        words = f"max length {self._shown.max_length:,}"
        wide = QFontMetricsF(self.font()).horizontalAdvance(words)
        left = min(max(area.left(), x - wide / 2), area.right() - wide)
        painter.drawText(QRectF(left, 0, wide + 4, area.top()), 0, words)

    def event(self, event: object) -> bool:
        """Qt: a tip reads a bar out."""
        if isinstance(event, QHelpEvent) and self._shown.counts:
            area = self._area()
            share = (event.pos().x() - area.left()) / max(1.0, area.width())
            index = int(share * len(self._shown.counts))
            if 0 <= index < len(self._shown.counts):
                QToolTip.showText(event.globalPos(), self._bin_words(index), self)
                return True
        return super().event(event)  # type: ignore[arg-type]

    def _bin_words(self, index: int) -> str:
        first, last = self._shown.edges[index], self._shown.edges[index + 1] - 1
        count = self._shown.counts[index]
        return f"{first:,} to {last:,} tokens: {count:,} row{'s' if count != 1 else ''}"


def caption(shown: Histogram) -> str:
    """What the histogram says about the max length, in one sentence."""
    split = "1 text is" if shown.divided == 1 else f"{shown.divided:,} texts are"
    if shown.divided and not shown.cut:
        return (
            f"{split} longer than the max length of {shown.max_length:,} tokens and split into pieces. "
            f"The longest has {shown.longest:,}."
        )
    if not shown.cut:
        longest = f"the longest has {shown.longest:,}"
        return f"No row is longer than the max length of {shown.max_length:,} tokens; {longest}."
    rows = "1 row is" if shown.cut == 1 else f"{shown.cut:,} rows are"
    told = f"{rows} longer than the max length of {shown.max_length:,} tokens and cut"
    if shown.end_lost:
        told += f"; {shown.end_lost:,} of them lose the end of an answer"
    if shown.divided:
        told += f"; {split} longer and split into pieces"
    return f"{told}. The longest has {shown.longest:,}."
