"""The legend of the token view: a chip of each state with its name and how many tokens are in it.

It paints with ``token_paint``, so that it always matches the tokens.
"""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QHelpEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from studio.preview.tokens import State, TokenRow
from ui.data.token_paint import paint_chip
from ui.data.token_words import STATE_HELP, STATE_WORDS, STATES
from ui.style import theme

_CHIP_PX = 22.0
_GAP_PX = 5.0
_APART_PX = 12.0


class Legend(QWidget):
    """The legend of the token states."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("token-legend")
        self._counts: dict[State, int] = {}
        self._special = 0
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        theme.changed.connect(self.update)
        self.show_row(None)

    def show_row(self, row: TokenRow | None) -> None:
        """Count the tokens of this row."""
        self._counts = {s: row.count(s) for s in STATES} if row is not None else {}
        self._special = sum(t.special for t in row.tokens) if row is not None else 0
        self.setAccessibleName("Legend: " + self.text())
        self.updateGeometry()
        self.update()

    def text(self) -> str:
        """The legend as text."""
        return ", ".join(words for _, words, _ in self._entries())

    def heightForWidth(self, width: int) -> int:
        """Qt: as many lines as are needed."""
        places = self._places(width)
        return round(places[-1].bottom() + 3) if places else 0

    def sizeHint(self) -> QSize:
        """Qt: on one line where there is room."""
        return QSize(320, self.heightForWidth(max(200, self.width())))

    def _entries(self) -> list[tuple[State, str, bool]]:
        shown = [s for s in STATES if s in ("trained", "context") or self._counts.get(s)]
        made = [(s, self._words(STATE_WORDS[s], self._counts.get(s)), False) for s in shown]
        return [*made, ("context", self._words("Special", self._special), True)]

    def _words(self, name: str, count: int | None) -> str:
        return f"{name} {count:,}" if self._counts and count is not None else name

    def _places(self, width: int) -> list[QRectF]:
        metrics = QFontMetricsF(self.font())
        x, y, height = 0.0, 3.0, metrics.height() + 4
        places = []
        for _, words, _ in self._entries():
            wide = _CHIP_PX + _GAP_PX + metrics.horizontalAdvance(words)
            if x and x + wide > width:
                x, y = 0.0, y + height + 3
            places.append(QRectF(x, y, wide, height))
            x += wide + _APART_PX
        return places

    def paintEvent(self, event: QPaintEvent) -> None:
        """Chips and words."""
        del event
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        places = self._places(self.width())
        for (state, words, special), place in zip(self._entries(), places, strict=True):
            chip = QRectF(place.left(), place.top() + 1, _CHIP_PX, place.height() - 2)
            paint_chip(painter, chip, "ab", state, special)
            painter.setPen(theme.colors().text)
            text = place.adjusted(_CHIP_PX + _GAP_PX, 0, 1, 0)
            painter.drawText(text, int(Qt.AlignmentFlag.AlignVCenter), words)
        painter.end()

    def event(self, event: object) -> bool:
        """Qt: a tooltip explains a state."""
        if isinstance(event, QHelpEvent):
            for (state, _, special), place in zip(
                self._entries(), self._places(self.width()), strict=True
            ):
                if place.contains(event.pos()):
                    words = "Tokens that represent no text." if special else STATE_HELP[state]
                    QToolTip.showText(event.globalPos(), words, self)
                    return True
        return super().event(event)  # type: ignore[arg-type]
