"""A grid of coloured cells with their numbers: layers across, parts of a layer down.

Painted by hand, so that two hundred cells cost nothing and stay crisp. It draws its cells and shows
the tip of the cell under the mouse; it does not know what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui.style import theme

_PAD_PX, _GAP_PX = 10, 1
_LEAST_CELL_PX, _MOST_CELL_PX, _ROW_PX = 7, 48, 24
_SPARSE = 5
"""If columns are too narrow for every number, every fifth has one."""


@dataclass(frozen=True)
class Cell:
    """``value`` is the colour's strength from 0 to 1, ``text`` is drawn in the cell if it fits,
    ``tip`` has all details."""

    value: float
    text: str
    tip: str


class HeatMap(QWidget):
    """``rows`` and ``columns`` are titles; ``cells[row][column]`` may be ``None`` for nothing there.

    ``pointed`` carries the tip of the cell under the mouse, or an empty text.
    """

    pointed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: Sequence[str] = ()
        self._columns: Sequence[str] = ()
        self._cells: Sequence[Sequence[Cell | None]] = ()
        self._hovered: tuple[int, int] | None = None
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        theme.changed.connect(self.update)

    def show_cells(
        self, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell | None]]
    ) -> None:
        """Show these cells."""
        self._rows, self._columns, self._cells = rows, columns, cells
        self._hovered = None
        self.updateGeometry()
        self.update()

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """Row and column at a place, if a cell is there."""
        area = self._area()
        if not self._rows or not self._columns or not area.contains(x, y):
            return None
        row = int((y - area.top()) / self._row_height())
        column = int((x - area.left()) / self._column_width())
        inside = row < len(self._rows) and column < len(self._columns)
        return (row, column) if inside else None

    def place_of(self, row: int, column: int) -> QRectF:
        """Where a cell is drawn."""
        area, width, height = self._area(), self._column_width(), self._row_height()
        left, top = area.left() + column * width, area.top() + row * height
        return QRectF(left, top, width - _GAP_PX, height - _GAP_PX)

    def sizeHint(self) -> QSize:
        """Room for every row at its usual height."""
        height = 2 * _PAD_PX + self._head() + _ROW_PX * max(1, len(self._rows))
        return QSize(420, round(height))

    def minimumSizeHint(self) -> QSize:
        """The size at which every cell is still visible."""
        width = self._label_width() + _LEAST_CELL_PX * len(self._columns) + 2 * _PAD_PX
        return QSize(round(width), round(2 * _PAD_PX + self._head() + 14 * len(self._rows)))

    # ------------------------------------------------------------ measures

    def _metrics(self) -> QFontMetricsF:
        return QFontMetricsF(self.font())

    def _head(self) -> float:
        return self._metrics().height() + 4

    def _label_width(self) -> float:
        return max((self._metrics().horizontalAdvance(r) for r in self._rows), default=0.0) + 10

    def _area(self) -> QRectF:
        left, top = _PAD_PX + self._label_width(), _PAD_PX + self._head()
        columns, rows = max(1, len(self._columns)), max(1, len(self._rows))
        width = min(self.width() - left - _PAD_PX, columns * _MOST_CELL_PX)
        height = min(self.height() - top - _PAD_PX, rows * _ROW_PX)
        return QRectF(left, top, max(width, columns), max(height, rows))

    def _column_width(self) -> float:
        return self._area().width() / max(1, len(self._columns))

    def _row_height(self) -> float:
        return self._area().height() / max(1, len(self._rows))

    # ------------------------------------------------------------ Qt

    def paintEvent(self, event: QPaintEvent) -> None:
        """Titles, cells, numbers."""
        del event
        painter = QPainter(self)
        self._paint_titles(painter)
        for row, line in enumerate(self._cells):
            for column, cell in enumerate(line):
                if cell is not None:
                    self._paint_cell(painter, row, column, cell)
        if self._hovered is not None:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(theme.colors().text)
            painter.drawRect(self.place_of(*self._hovered))
        painter.end()

    def _paint_titles(self, painter: QPainter) -> None:
        look, area = theme.colors(), self._area()
        painter.setFont(self.font())
        painter.setPen(look.text_muted)
        for row, title in enumerate(self._rows):
            place = self.place_of(row, 0)
            box = QRectF(_PAD_PX, place.top(), area.left() - _PAD_PX - 8, place.height())
            painter.drawText(
                box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, title
            )
        widest = max((self._metrics().horizontalAdvance(c) for c in self._columns), default=0.0)
        every = 1 if widest + 4 <= self._column_width() else _SPARSE
        for column, title in enumerate(self._columns):
            if column % every == 0:
                place = self.place_of(0, column)
                middle = place.center().x()
                box = QRectF(middle - 30, _PAD_PX, 60, self._head() - 2)
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, title)

    def _paint_cell(self, painter: QPainter, row: int, column: int, cell: Cell) -> None:
        look, place = theme.colors(), self.place_of(row, column)
        color = theme.blend(look.surface_raised, look.accent, min(1.0, max(0.0, cell.value)))
        painter.fillRect(place, color)
        if cell.text and self._metrics().horizontalAdvance(cell.text) + 4 <= place.width():
            on_dark = theme.contrast(color, look.text) >= theme.contrast(color, look.text_on_accent)
            painter.setPen(look.text if on_dark else look.text_on_accent)
            painter.drawText(place, Qt.AlignmentFlag.AlignCenter, cell.text)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Qt: show the tip of the cell under the mouse."""
        self._point(self.cell_at(event.position().x(), event.position().y()))

    def leaveEvent(self, event: QEvent) -> None:
        """Qt: clear the tip."""
        super().leaveEvent(event)
        self._point(None)

    def _point(self, key: tuple[int, int] | None) -> None:
        cell = self._cells[key[0]][key[1]] if key is not None else None
        self._hovered = key if cell is not None else None
        self.pointed.emit(cell.tip if cell is not None else "")
        self.update()
