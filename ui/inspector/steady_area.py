"""A scroll area whose rows stay under the mouse while things above them appear, grow or disappear.

Facts of a file, Problems and estimates arrive while someone is about to click; a row that moves away
then is a wrong click. As long as the mouse is over the area, the row under it keeps its place on the
screen: the area is scrolled, or gets space above or below. That space is given back when the mouse leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PySide6.QtCore import QEvent, QMargins, QPoint, QRect, Qt
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QApplication, QFrame, QLayout, QScrollArea, QWidget

_TRIES = 4  # a scroll bar that appears makes the rows narrower, and perhaps higher


class SteadyArea(QScrollArea):
    """A vertical scroll area; ``show_content`` gives it its content."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._column: QLayout | None = None
        self._rows: Callable[[], Iterable[QWidget]] = tuple
        self._margins = QMargins()
        self._places: dict[QWidget, QRect] = {}
        self._holding = False
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.verticalScrollBar().valueChanged.connect(self._remember)

    def show_content(
        self, content: QWidget, column: QLayout, rows: Callable[[], Iterable[QWidget]]
    ) -> None:
        """Show a widget whose layout is ``column``; ``rows`` gives the widgets in it that keep their places.
        ``relaid`` is called after each new layout of it."""
        self._column, self._rows = column, rows
        self._margins = column.contentsMargins()
        self.setWidget(content)

    def relaid(self) -> None:
        """The content has been laid out: put the row under the mouse back where it was."""
        if self._holding:
            return
        at = self.viewport().mapFromGlobal(QCursor.pos())
        if self.isVisible() and self.viewport().rect().contains(at):
            self._holding = True
            self._hold(at)
            self._holding = False
        self._remember()

    def leaveEvent(self, event: QEvent) -> None:
        """Qt: the mouse leaves, and the space that held the rows goes."""
        super().leaveEvent(event)
        if self._column is not None and self._column.contentsMargins() != self._margins:
            self._column.setContentsMargins(self._margins)

    def _hold(self, at: QPoint) -> None:
        shown = [row for row in self._places if row.isVisible()]
        if not shown:
            return
        nearest = min(shown, key=lambda row: _distance(self._places[row], at.y()))
        for _ in range(_TRIES):
            moved = self._place(nearest).y() - self._places[nearest].y()
            if not moved:
                return
            self._scroll_by(moved)
            QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)

    def _scroll_by(self, moved: int) -> None:
        """Scroll, with space above or below where the content is too short for it."""
        bar = self.verticalScrollBar()
        before = bar.value()
        bar.setValue(before + moved)
        rest = moved - (bar.value() - before)
        if rest and self._column is not None:
            space = self._column.contentsMargins()
            if rest > 0:
                view = self.viewport().size()
                spare = view.height() - self._column.totalHeightForWidth(view.width())
                space.setBottom(space.bottom() + rest + max(0, spare))
            else:
                space.setTop(space.top() - rest)
            self._column.setContentsMargins(space)

    def _place(self, row: QWidget) -> QRect:
        return QRect(row.mapTo(self.viewport(), QPoint(0, 0)), row.size())

    def _remember(self) -> None:
        self._places = {row: self._place(row) for row in self._rows() if row.isVisible()}


def _distance(place: QRect, y: int) -> int:
    """How far (pixels) a height is from a row; 0 inside it."""
    return max(place.top() - y, y - place.bottom(), 0)
