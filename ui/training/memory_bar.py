"""The memory of a training as one bar: its parts in colours, and a line where the free memory ends.

Memory beyond the line is hatched: colour is never the only sign. The parts are not all in memory at
the same time, so the bar is as long as the peak and the parts share it.
"""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from studio.estimate.graph import Estimate
from studio.estimate.words import PARTS, gib, headline
from ui.style import theme

HEIGHT_PX = 18
_ROUND_PX = 4


def shares(found: Estimate) -> list[tuple[str, int, float]]:
    """Name, bytes and share of the peak of each part."""
    if found.parts is None or not found.peak:
        return []
    sizes = [(title, int(getattr(found.parts, name))) for name, title in PARTS]
    total = sum(size for _, size in sizes) or 1
    return [(title, size, size / total) for title, size in sizes if size > 0]


def color(title: str) -> QColor:
    """The colour of a part, the same in bar and legend."""
    series = theme.colors().series
    index = next(i for i, (_, name) in enumerate(PARTS) if name == title)
    base = QColor(series[index % len(series)])
    return base if index < len(series) else theme.blend(base, theme.colors().surface, 0.45)


class MemoryBar(QWidget):
    """Shows one estimate."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: Estimate | None = None
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_estimate(self, found: Estimate) -> None:
        """Show an estimate."""
        self._found = found
        parts = "; ".join(f"{title} {gib(size)}" for title, size, _ in shares(found))
        self.setAccessibleName(f"{headline(found)} {parts}")
        self.update()

    def sizeHint(self) -> QSize:
        """Qt: as wide as there is room."""
        return QSize(120, HEIGHT_PX + 6)

    def part_at(self, x: float) -> str:
        """The part at an x of this widget, as text."""
        left = 0.0
        for title, size, share in shares(self._found) if self._found else ():
            right = left + share * self._peak_px()
            if left <= x < right:
                return f"{title}: {gib(size)}"
            left = right
        return headline(self._found) if self._found else ""

    def _scale(self) -> float:
        """Bytes that the full width represents."""
        assert self._found is not None
        return float(max(self._found.peak or 1, self._found.available, 1))

    def _peak_px(self) -> float:
        assert self._found is not None
        return self.width() * (self._found.peak or 0) / self._scale()

    def event(self, event: QEvent) -> bool:
        """Qt: a tooltip names the part under the mouse."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self.part_at(event.pos().x()), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: paint the track, the parts, the hatched excess, and the line of the free memory."""
        del event
        if self._found is None:
            return
        look = theme.colors()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = QRectF(0.5, 3, self.width() - 1, HEIGHT_PX)
        painter.setPen(QPen(look.border_strong, 1))
        painter.setBrush(look.background)
        painter.drawRoundedRect(track, _ROUND_PX, _ROUND_PX)
        painter.setPen(Qt.PenStyle.NoPen)
        left = 0.0
        for title, _, share in shares(self._found):
            wide = share * self._peak_px()
            painter.setBrush(color(title))
            painter.drawRect(QRectF(left, 4, max(0.0, wide - 0.7), HEIGHT_PX - 2))
            left += wide
        end = self.width() * self._found.available / self._scale()
        if self._found.fits is False:
            painter.setBrush(QBrush(look.danger, Qt.BrushStyle.BDiagPattern))
            painter.drawRect(QRectF(end, 4, max(0.0, left - end), HEIGHT_PX - 2))
        painter.setPen(QPen(look.text, 2))
        at = min(end, self.width() - 1.5)
        painter.drawLine(QPointF(at, 0), QPointF(at, HEIGHT_PX + 6))
        painter.end()
