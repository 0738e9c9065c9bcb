"""Cards of the templates: a picture of the graph, a title and a sentence each, in a grid for mouse and keyboard.

The empty canvas and the dialog New from Template show the same cards. A picture is painted by the canvas' own
items from the project file, in the colours of the theme, so it cannot become outdated.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QKeyEvent, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import Registry
from studio.graph.templates import TEMPLATES, Template
from ui.canvas import text
from ui.canvas.scene import GraphScene
from ui.style import icons, theme

LEAST_PX = 168
GAP_PX = 10
_PAD = 10
_PICTURE_SHARE = 0.3
_MARGIN = 30.0
_WRAP = Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop


def picture(graph: Graph, registry: Registry, size: QSize, ratio: float) -> QPixmap:
    """A graph fitted into a size: its nodes and wires as the zoomed-out canvas paints them, with icons."""
    made = QPixmap(size * ratio)
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    scene = GraphScene(registry)
    scene.sync(graph)
    scene.detail = "plain"
    around = scene.content_rect().adjusted(-_MARGIN, -_MARGIN, _MARGIN, _MARGIN)
    scale = min(size.width() / around.width(), size.height() / around.height(), 0.2)
    target = QRectF(0, 0, around.width() * scale, around.height() * scale)
    target.moveCenter(QRectF(0, 0, size.width(), size.height()).center())
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    scene.render(painter, target, around)
    colors = theme.colors()
    for item in scene.nodes.values():
        card = item.scene_card()
        side = round(min(card.height(), card.width()) * scale * 0.75)
        middle = target.topLeft() + (card.center() - around.topLeft()) * scale
        place = QRectF(0, 0, side, side)
        place.moveCenter(middle)
        tint = colors.category(item.content.category)
        text.draw_icon(painter, icons.known(item.content.icon), place, tint)
    painter.end()
    return made


class TemplateCard(QAbstractButton):
    """One template. Enter and Space press it, as a click does."""

    def __init__(self, template: Template, registry: Registry, parent: QWidget) -> None:
        super().__init__(parent)
        self.template = template
        self._registry = registry
        self._graph = load_project(template.path)
        self._picture: tuple[object, QPixmap] | None = None
        self.setObjectName(f"template-{template.id}")
        self.setText(template.title)
        self.setAccessibleName(template.title)
        self.setAccessibleDescription(template.sentence)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def height_for(self, width: int) -> int:
        """The height at which nothing is clipped."""
        title, sentence = self._texts(width)
        return title.height() + sentence.height() + self._picture_px(width) + 3 * _PAD + 4

    def _picture_px(self, width: int) -> int:
        return round(width * _PICTURE_SHARE)

    def _bold(self) -> QFont:
        font = self.font()
        font.setWeight(QFont.Weight.DemiBold)
        return font

    def _texts(self, width: int) -> tuple[QRect, QRect]:
        """The places of title and sentence."""
        room = QRect(_PAD, self._picture_px(width) + 2 * _PAD, width - 2 * _PAD, 2000)
        title = QFontMetrics(self._bold()).boundingRect(room, _WRAP, self.template.title)
        room.setTop(title.bottom() + 4)
        sentence = self.fontMetrics().boundingRect(room, _WRAP, self.template.sentence)
        title.setWidth(room.width())
        sentence.setWidth(room.width())
        return title, sentence

    def paintEvent(self, event: Any) -> None:
        """Qt: frame, picture, title, sentence."""
        del event
        colors = theme.colors()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        lit = self.underMouse() or self.isDown()
        edge = colors.accent if lit or self.hasFocus() else colors.border
        painter.setPen(QPen(edge, 2 if self.hasFocus() else 1))
        fill: QColor = colors.surface_raised if lit else colors.surface
        painter.setBrush(fill)
        painter.drawRoundedRect(frame, 8, 8)
        size = QSize(self.width() - 2 * _PAD, self._picture_px(self.width()))
        painter.drawPixmap(_PAD, _PAD, self._painted(size))
        title, sentence = self._texts(self.width())
        painter.setFont(self._bold())
        painter.setPen(colors.text)
        painter.drawText(title, _WRAP, self.template.title)
        painter.setFont(self.font())
        painter.setPen(colors.text_muted)
        painter.drawText(sentence, _WRAP, self.template.sentence)

    def _painted(self, size: QSize) -> QPixmap:
        """The picture in this size, resolution and scheme."""
        key = (size.width(), size.height(), self.devicePixelRatioF(), theme.colors().name)
        if self._picture is None or self._picture[0] != key:
            made = picture(self._graph, self._registry, size, self.devicePixelRatioF())
            self._picture = (key, made)
        return self._picture[1]

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Enter presses the card."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)


class CardGrid(QWidget):
    """The cards in as many columns as fit. Arrow keys go from card to card; ``left`` is emitted when Up or Escape
    leaves the first row."""

    chosen = Signal(object)
    left = Signal()

    def __init__(self, registry: Registry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.cards = [TemplateCard(template, registry, self) for template in TEMPLATES]
        self._columns = 1
        for card in self.cards:
            card.clicked.connect(lambda _=False, t=card.template: self.chosen.emit(t))
            card.installEventFilter(self)
        theme.changed.connect(self.update)

    def columns_in(self, width: int) -> int:
        """How many cards fit beside each other; rows are filled as evenly as possible."""
        least = max(LEAST_PX, self.fontMetrics().horizontalAdvance("0") * 20)
        most = max(1, min(len(self.cards), (width + GAP_PX) // (least + GAP_PX)))
        rows = -(-len(self.cards) // most)
        return -(-len(self.cards) // rows)

    def heights(self, width: int) -> list[int]:
        """The heights of the rows."""
        columns = self.columns_in(width)
        each = self._card_px(width, columns)
        tall = [card.height_for(each) for card in self.cards]
        return [max(tall[i : i + columns]) for i in range(0, len(tall), columns)]

    def _card_px(self, width: int, columns: int) -> int:
        return (width - GAP_PX * (columns - 1)) // columns

    def arrange(self, width: int) -> int:
        """Place the cards; returns the height that they take."""
        self._columns = self.columns_in(width)
        each = self._card_px(width, self._columns)
        y = 0
        for row, height in enumerate(self.heights(width)):
            first = row * self._columns
            for column, card in enumerate(self.cards[first : first + self._columns]):
                card.setGeometry(column * (each + GAP_PX), y, each, height)
            y += height + GAP_PX
        self.setMinimumHeight(y - GAP_PX)
        return y - GAP_PX

    def resizeEvent(self, event: Any) -> None:
        """Qt: arrange again."""
        super().resizeEvent(event)
        self.arrange(self.width())

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Qt: arrow keys and Escape on a card."""
        if event.type() != QEvent.Type.KeyPress or not isinstance(event, QKeyEvent):
            return False
        at = self.cards.index(watched)
        steps = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -self._columns,
            Qt.Key.Key_Down: self._columns,
        }
        step = steps.get(Qt.Key(event.key()))
        if event.key() == Qt.Key.Key_Escape or (
            event.key() == Qt.Key.Key_Up and at + (step or 0) < 0
        ):
            self.left.emit()
            return event.key() != Qt.Key.Key_Escape
        if step is None:
            return False
        reached = at + step
        if 0 <= reached < len(self.cards):
            self.cards[reached].setFocus(Qt.FocusReason.TabFocusReason)
        return True
