"""Percentages as bars with their names and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.preview.report import Share
from studio.system.number_text import percent
from ui.style import theme

_NAME_SHARE = 0.34
_NUMBER_PX = 56.0


class ShareBars(QWidget):
    """One bar for each share."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shares: tuple[Share, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_shares(self, shares: Sequence[Share]) -> None:
        """Show these shares."""
        self._shares = tuple(shares)
        self.setAccessibleName(self.text())
        self.setVisible(bool(shares))
        self.updateGeometry()
        self.update()

    def text(self) -> str:
        """The shares as text."""
        return ", ".join(f"{s.name} {percent(s.share)}" for s in self._shares)

    def _line(self) -> float:
        return QFontMetricsF(self.font()).height() + 5

    def sizeHint(self) -> QSize:
        """Qt: one line for each share."""
        return QSize(240, round(self._line() * max(1, len(self._shares))))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Names, bars, numbers."""
        del event
        painter, look, line = QPainter(self), theme.colors(), self._line()
        painter.setFont(self.font())
        middle = int(Qt.AlignmentFlag.AlignVCenter)
        name = self.width() * _NAME_SHARE
        width = max(10.0, self.width() - name - _NUMBER_PX)
        for index, share in enumerate(self._shares):
            top = index * line
            painter.setPen(look.text)
            painter.drawText(QRectF(0, top, name - 6, line), middle, share.name)
            track = QRectF(name, top + line / 2 - 4, width, 8)
            painter.fillRect(track, look.border)
            track.setWidth(max(2.0, width * share.share))
            painter.fillRect(track, look.series[0])
            number = QRectF(name + width + 6, top, _NUMBER_PX - 6, line)
            painter.drawText(number, middle, percent(share.share))
        painter.end()
