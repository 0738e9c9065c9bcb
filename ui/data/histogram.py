"""A histogram of the row lengths in tokens, with a line at the maximum length.

The line can be dragged, or moved with the arrow keys; the owner of the widget receives a signal and
sets the max length. It paints a ``studio.preview.report.Histogram`` and counts nothing itself.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFocusEvent,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from studio.preview.report import Histogram
from studio.system.number_text import percent
from ui.style import theme

_LEAST_PX = 3.0
_HEIGHT_PX = 150
_PAD_PX = 6.0
_LABEL_GAP_PX = 14.0
_LEAST_BAR_PX = 2.0
_GRAB_PX = 7.0
_SETTLE_MS = 700
_SHORTEST = 8  # the minimum of the Train node
_KEYS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Down: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_Up: 1,
    Qt.Key.Key_PageDown: -8,
    Qt.Key.Key_PageUp: 8,
}


@dataclass(frozen=True)
class Scale:
    """Numbers of tokens and their positions on the axis, linear within a bin only: bars are equally
    wide whatever their bins hold. ``edges`` are those of the bins, in tokens; the axis goes from
    ``left`` over ``width`` pixels."""

    edges: tuple[int, ...]
    left: float
    width: float

    @property
    def _bin_px(self) -> float:
        return self.width / max(1, len(self.edges) - 1)

    def x_of(self, length: int) -> float:
        """The position of a max length: after the rows with that many tokens."""
        place = min(max(length + 1, self.edges[0]), self.edges[-1])
        index = min(bisect_right(self.edges, place), len(self.edges) - 1) - 1
        first, after = self.edges[index], self.edges[index + 1]
        return self.left + (index + (place - first) / (after - first)) * self._bin_px

    def length_at(self, x: float, grain: int) -> int:
        """The max length nearest to ``x``, as a round number."""
        at = min(max((x - self.left) / self._bin_px, 0.0), len(self.edges) - 1.0)
        index = min(int(at), len(self.edges) - 2)
        first, after = self.edges[index], self.edges[index + 1]
        step = self.step_at(first, grain)
        return max(step, round((first + (at - index) * (after - first) - 1) / step) * step)

    def step_at(self, length: int, grain: int) -> int:
        """The step of the line at that place: a visible power of two, at least ``grain``."""
        index = min(max(bisect_right(self.edges, length) - 1, 0), len(self.edges) - 2)
        tokens_per_px = (self.edges[index + 1] - self.edges[index]) / self._bin_px
        step = grain
        while step < _LEAST_PX * tokens_per_px:
            step *= 2
        return step


class LengthHistogram(QWidget):
    """One bar for each bin; tokens beyond the max length are hatched.

    ``moved`` carries the max length while its line is moved, ``chosen`` the one at which it was
    released.
    """

    moved = Signal(object)
    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("length-histogram")
        self._shown = Histogram()
        self._length = 0
        self._moving: int | None = None
        self._settle = QTimer(self, singleShot=True, interval=_SETTLE_MS)
        self._settle.timeout.connect(self._let_go)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_histogram(self, shown: Histogram, length: int | None = None) -> None:
        """Show these lengths; the line is at ``length``, or at the max length of the report. A line
        that is being moved stays where it is."""
        self._shown = shown
        self._length = length or shown.max_length
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if shown.lengths else Qt.FocusPolicy.NoFocus)
        moves = "; use the arrow keys to change the max length" if shown.lengths else ""
        self.setAccessibleName(f"Row lengths{moves}")
        self._describe()
        self.setVisible(bool(shown.counts))

    @property
    def shown(self) -> Histogram:
        """The displayed lengths."""
        return self._shown

    @property
    def length(self) -> int:
        """The max length of the line."""
        return self._length if self._moving is None else self._moving

    def _describe(self) -> None:
        self.setAccessibleDescription(caption(self._shown, self.length))
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
        inner = QRectF(self.rect()).adjusted(_PAD_PX, line + 4, -_PAD_PX, -(line + 4))
        return inner

    def _scale(self) -> Scale:
        area = self._area()
        return Scale(self._shown.edges, area.left(), area.width())

    def _line_at(self) -> float:
        """Where the max length is, from left to right; the right end when all rows are shorter."""
        return self._scale().x_of(self.length)

    # ------------------------------------------------------------ moving the line

    def _move(self, length: int) -> None:
        most = -(-self._shown.longest // self._shown.grain) * self._shown.grain
        self._moving = max(_SHORTEST, min(length, max(most, self._length)))
        self._describe()
        self.moved.emit(self._moving)

    def _let_go(self) -> None:
        """Release the line; if it was not moved, nothing changes."""
        self._settle.stop()
        wanted, self._moving = self._moving, None
        if wanted is not None and wanted != self._length:
            self._length = wanted
            self.chosen.emit(wanted)
        self._describe()

    def _put_back(self) -> None:
        self._settle.stop()
        self._moving = None
        self._describe()
        self.moved.emit(self._length)

    def _grabs(self, x: float) -> bool:
        return bool(self._shown.lengths) and abs(x - self._line_at()) <= _GRAB_PX

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: grab the line."""
        if event.button() == Qt.MouseButton.LeftButton and self._grabs(event.position().x()):
            self._moving = self.length
            event.accept()
            return
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Qt: move the line; without a button, the cursor shows where it can be grabbed."""
        x = event.position().x()
        if self._moving is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self._move(self._scale().length_at(x, self._shown.grain))
        grabs = self._moving is not None or self._grabs(x)
        self.setCursor(Qt.CursorShape.SplitHCursor if grabs else Qt.CursorShape.ArrowCursor)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Qt: release the line."""
        if event.button() == Qt.MouseButton.LeftButton and self._moving is not None:
            self._let_go()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: arrows and page keys move the line, Home and End go to its ends, Escape puts it back."""
        key, shown = Qt.Key(event.key()), self._shown
        if not shown.lengths:
            super().keyPressEvent(event)
        elif key in _KEYS:
            step = self._scale().step_at(self.length, shown.grain)
            self._move((self.length // step + _KEYS[key]) * step)
            self._settle.start()
        elif key in (Qt.Key.Key_Home, Qt.Key.Key_End):
            self._move(_SHORTEST if key == Qt.Key.Key_Home else shown.longest + shown.grain - 1)
            self._settle.start()
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._moving is not None:
            self._let_go()
        elif key == Qt.Key.Key_Escape and self._moving is not None:
            self._put_back()
        else:
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Qt: keep the length chosen by keyboard."""
        self._let_go()
        super().focusOutEvent(event)

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
        look, place, line = theme.colors(), self.bar_of(index), self._line_at()
        painter.fillRect(place, look.series[0])
        if place.right() > line + 1 and self.length < self._shown.longest:
            place.setLeft(max(place.left(), line))
            painter.fillRect(place, theme.blend(look.background, look.danger, 0.3))
            painter.fillRect(place, QBrush(QColor(look.danger), Qt.BrushStyle.BDiagPattern))

    def _paint_axis(self, painter: QPainter) -> None:
        look, area = theme.colors(), self._area()
        painter.setPen(look.border_strong)
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        painter.setPen(look.text_muted)
        for text, place in self.labels():
            painter.drawText(place, Qt.AlignmentFlag.AlignCenter, text)

    def labels(self) -> list[tuple[str, QRectF]]:
        """The labels of the axis and their places: where bins begin, and the longest row at the end.
        Bins of one length have it below their middle. Labels without room are omitted."""
        area, edges, metrics = self._area(), self._shown.edges, QFontMetricsF(self.font())
        width, top = area.width() / max(1, len(edges) - 1), area.bottom() + 3

        single = all(after - first == 1 for first, after in pairwise(edges))

        def place(text: str, index: int) -> QRectF:
            wide = metrics.horizontalAdvance(text)
            left = area.left() + index * width + ((width - wide) / 2 if single else 0.0)
            return QRectF(max(0.0, min(left, area.right() - wide)), top, wide, metrics.height())

        last = str(edges[-1] - 1)
        end = place(last, len(edges) - (2 if single else 1))
        shown: list[tuple[str, QRectF]] = []
        for index, edge in enumerate(edges[:-1]):
            label = place(str(edge), index)
            free = shown[-1][1].right() + _LABEL_GAP_PX if shown else 0.0
            fits = label.left() >= free and label.right() + _LABEL_GAP_PX <= end.left()
            if fits and str(edge) != last:
                shown.append((str(edge), label))
        return [*shown, (last, end)]

    def _paint_line(self, painter: QPainter) -> None:
        look, area, x = theme.colors(), self._area(), self._line_at()
        cuts = self.length < self._shown.longest
        beyond = self._is_beyond()  # then the line is only at the end of the axis
        style = Qt.PenStyle.DotLine if beyond else Qt.PenStyle.SolidLine
        painter.setPen(QPen(look.danger if cuts else look.text_muted, 2, style))
        painter.drawLine(int(x), int(area.top()), int(x), int(area.bottom()))
        if self._shown.lengths:  # it can be grabbed here
            grip = QRectF(x - 3, area.center().y() - 8, 6, 16)
            painter.setPen(QPen(look.danger if cuts else look.text_muted, 2))
            painter.setBrush(look.accent if self.hasFocus() else look.background)
            painter.drawRoundedRect(grip, 3, 3)
        painter.setPen(look.danger if cuts else look.text_muted)
        words = self.line_words()
        wide = QFontMetricsF(self.font()).horizontalAdvance(words)
        left = min(max(area.left(), x - wide / 2), area.right() - wide)
        painter.drawText(QRectF(left, 0, wide + 4, area.top()), 0, words)

    def line_words(self) -> str:
        """The label of the line, with an arrow if the max length is beyond the axis."""
        return f"max length {self.length:,}{' →' if self._is_beyond() else ''}"

    def _is_beyond(self) -> bool:
        return self.length >= self._shown.edges[-1]

    def event(self, event: QEvent) -> bool:
        """Qt: a tooltip describes a bar."""
        if isinstance(event, QHelpEvent) and self._shown.counts:
            area = self._area()
            share = (event.pos().x() - area.left()) / max(1.0, area.width())
            index = int(share * len(self._shown.counts))
            if 0 <= index < len(self._shown.counts):
                QToolTip.showText(event.globalPos(), self._bin_words(index), self)
                return True
        return super().event(event)

    def _bin_words(self, index: int) -> str:
        first, last = self._shown.edges[index], self._shown.edges[index + 1] - 1
        count = self._shown.counts[index]
        return f"{first:,} to {last:,} tokens: {count:,} row{'s' if count != 1 else ''}"


def caption(shown: Histogram, length: int | None = None) -> str:
    """The caption for the max length of the report, or for another."""
    if length is not None and length != shown.max_length:
        return _would(shown, length)
    longest = f"The longest row has {shown.longest:,}."
    most = f"the max length of {shown.max_length:,} tokens"
    if not shown.cut and not shown.divided:
        return f"No row is longer than {most}; {longest[0].lower()}{longest[1:]}"
    split = "1 text is" if shown.divided == 1 else f"{shown.divided:,} texts are"
    if not shown.cut:
        return f"{split} longer than {most} and split. {longest}"
    rows = "1 row is" if shown.cut == 1 else f"{shown.cut:,} rows are"
    words = f"{rows} longer than {most} and truncated"
    if shown.end_lost:
        words += f"; {shown.end_lost:,} of them lose the end of an answer"
    if shown.divided:
        words += f"; {split} longer and split"
    return f"{words}. {longest}"


def _would(shown: Histogram, length: int) -> str:
    longer = shown.longer_than(length)
    if not longer:
        return (
            f"No row would be longer than {length:,} tokens; the longest row has {shown.longest:,}."
        )
    rows = "1 row" if longer == 1 else f"{longer:,} rows"
    share = percent(longer / max(1, sum(shown.rows)))
    return (
        f"{rows} ({share}) would be longer than {length:,} tokens. The longest row has "
        f"{shown.longest:,}."
    )
