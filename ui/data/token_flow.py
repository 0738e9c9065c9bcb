"""The tokens of one row as chips that flow like text; painted, so that 8,000 of them are fast.

Hovering a chip shows its details, a click or the arrow keys pin it, Escape releases it. It shows a
``TokenRow`` and never requests one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QWidget

from studio.preview.tokens import TokenRow
from ui.data.token_paint import PAD_PX, paint_chip, paint_frame
from ui.data.token_words import chip_text, speakers, token_words
from ui.style import theme

_MARGIN_PX = 8.0
_GAP_PX = 1.5
_LEAST_CHIP_PX = 7.0
Key = Qt.Key


@dataclass
class _Line:
    """A line of chips from ``first`` up to but without ``after``; ``label`` is the role that begins
    there."""

    top: float
    first: int
    after: int
    label: str = ""


class TokenFlow(QAbstractScrollArea):
    """``pointed`` carries the index of the token under the mouse or pinned, or ``None``."""

    pointed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("token-flow")
        self.setAccessibleName("Tokens of the row")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self._row: TokenRow | None = None
        self._texts: list[str] = []
        self._lefts: list[float] = []
        self._widths: list[float] = []
        self._lines: list[_Line] = []
        self._note = ""
        self._hovered: int | None = None
        self.pinned: int | None = None
        theme.changed.connect(self.viewport().update)

    @property
    def row(self) -> TokenRow | None:
        """The shown row."""
        return self._row

    def show_row(self, row: TokenRow | None, note: str = "") -> None:
        """Show a row; without one, or for a row without tokens, a sentence."""
        self._row, self._note = row, note
        self._texts = [chip_text(t) for t in row.tokens] if row is not None else []
        self._hovered = self.pinned = None
        self.verticalScrollBar().setValue(0)
        self._lay_out()
        self._tell()

    def place_of(self, index: int) -> QRectF:
        """The rectangle of a token's chip in viewport pixels."""
        line = self._line_of(index)
        top = self._lines[line].top + self._label_height(self._lines[line])
        return QRectF(
            self._lefts[index],
            top - self.verticalScrollBar().value(),
            self._widths[index],
            self._chip_height(),
        )

    def token_at(self, place: QPointF) -> int | None:
        """The token at a place of the viewport."""
        y = place.y() + self.verticalScrollBar().value()
        number = bisect_left(self._lines, y, key=lambda line: line.top) - 1
        if number < 0:
            return None
        line = self._lines[number]
        found = (i for i in range(line.first, line.after) if self.place_of(i).contains(place))
        return next(found, None)

    def pin(self, index: int | None) -> None:
        """Pin a token and scroll to it."""
        self.pinned = index
        if index is not None:
            place = self.place_of(index)
            bar = self.verticalScrollBar()
            if place.top() < 0:
                bar.setValue(round(bar.value() + place.top() - _MARGIN_PX))
            elif place.bottom() > self.viewport().height():
                below = place.bottom() - self.viewport().height()
                bar.setValue(round(bar.value() + below + _MARGIN_PX))
        self._tell()

    def sizeHint(self) -> QSize:
        """Qt: room for some lines."""
        return QSize(320, 220)

    # ------------------------------------------------------------ layout

    def _metrics(self) -> QFontMetricsF:
        return QFontMetricsF(self.font())

    def _chip_height(self) -> float:
        return self._metrics().height() + 5

    def _label_height(self, line: _Line) -> float:
        return self._metrics().height() + 3 if line.label else 0.0

    def _lay_out(self) -> None:
        """Place every chip; a line ends at the width, at a line break, and where the role
        changes."""
        metrics = self._metrics()
        known: dict[str, float] = {}
        starts = speakers(self._row) if self._row is not None else {}
        most = max(60.0, self.viewport().width() - 2 * _MARGIN_PX)
        self._lefts, self._widths, self._lines = [], [], []
        x, y, height = _MARGIN_PX, _MARGIN_PX, self._chip_height() + 4
        line = _Line(y, 0, 0, starts.get(0, ""))
        for index, text in enumerate(self._texts):
            width = known.get(text)
            if width is None:
                width = max(_LEAST_CHIP_PX, metrics.horizontalAdvance(text) + 2 * PAD_PX)
                known[text] = width = min(width, most)
            label = starts.get(index, "") if index else ""
            broken = index > 0 and self._texts[index - 1].endswith("↵")
            if index and (label or broken or x + width > most + _MARGIN_PX):
                line.after = index
                self._lines.append(line)
                y += height + self._label_height(line)
                line, x = _Line(y, index, index, label), _MARGIN_PX
            self._lefts.append(x)
            self._widths.append(width)
            x += width + _GAP_PX
        if self._texts:
            line.after = len(self._texts)
            self._lines.append(line)
            y += height + self._label_height(line)
        bar = self.verticalScrollBar()
        bar.setPageStep(self.viewport().height())
        bar.setSingleStep(round(height))
        bar.setRange(0, max(0, round(y + _MARGIN_PX - self.viewport().height())))
        self.viewport().update()

    def _line_of(self, index: int) -> int:
        return max(0, bisect_left(self._lines, index + 1, key=lambda line: line.first) - 1)

    # ------------------------------------------------------------ Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lay out again."""
        super().resizeEvent(event)
        self._lay_out()

    def changeEvent(self, event: QEvent) -> None:
        """Lay out again with another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._lay_out()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: paint the visible lines."""
        del event
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.viewport().rect(), theme.colors().background)
        painter.setFont(self.font())
        if self._row is None or not self._texts:
            self._paint_note(painter)
        else:
            self._paint_lines(painter, self._row)
        painter.end()

    def _paint_note(self, painter: QPainter) -> None:
        painter.setPen(theme.colors().text_muted)
        place = QRectF(self.viewport().rect()).adjusted(16, 12, -16, -12)
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(place, int(flags), self._note)

    def _paint_lines(self, painter: QPainter, row: TokenRow) -> None:
        top, height = self.verticalScrollBar().value(), self.viewport().height()
        for line in self._lines:
            if line.top > top + height:
                break
            if line.top + 3 * self._chip_height() < top:
                continue
            if line.label:
                painter.setPen(theme.colors().text_muted)
                base = line.top - top + self._metrics().ascent() + 1
                painter.drawText(QPointF(_MARGIN_PX, base), line.label)
            for index in range(line.first, line.after):
                token, place = row.tokens[index], self.place_of(index)
                paint_chip(
                    painter, place, self._texts[index], token.state, token.special, token.weight
                )
                if index in (self.pinned, self._hovered):
                    paint_frame(painter, place, index == self.pinned)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Qt: show the details of the token under the mouse."""
        found = self.token_at(event.position())
        if found != self._hovered:
            self._hovered = found
            self._tell()

    def leaveEvent(self, event: QEvent) -> None:
        """Qt: clear the hovered token."""
        super().leaveEvent(event)
        self._hovered = None
        self._tell()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: pin or release the token."""
        found = self.token_at(event.position())
        self.pin(None if found == self.pinned else found)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows go from token to token, Home and End to the first and last, Escape releases it."""
        if not self._texts:
            super().keyPressEvent(event)
            return
        last, at = len(self._texts) - 1, self.pinned
        moves = {
            Key.Key_Right: 0 if at is None else min(last, at + 1),
            Key.Key_Left: 0 if at is None else max(0, at - 1),
            Key.Key_Home: 0,
            Key.Key_End: last,
            Key.Key_Down: self._below(at, 1),
            Key.Key_Up: self._below(at, -1),
        }
        if event.key() in moves:
            self.pin(moves[Key(event.key())])
        elif event.key() == Key.Key_Escape and at is not None:
            self.pin(None)
        else:
            super().keyPressEvent(event)

    def _below(self, at: int | None, step: int) -> int:
        """The token below or above the pinned one."""
        if at is None:
            return 0
        number = min(len(self._lines) - 1, max(0, self._line_of(at) + step))
        line, left = self._lines[number], self._lefts[at]
        return min(range(line.first, line.after), key=lambda i: abs(self._lefts[i] - left))

    def _tell(self) -> None:
        index = self._hovered if self._hovered is not None else self.pinned
        words = token_words(self._row, index) if self._row and index is not None else ""
        self.setAccessibleDescription(words)
        self.viewport().update()
        self.pointed.emit(index)
