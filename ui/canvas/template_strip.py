"""The templates on an empty canvas, below the hint.

It covers only the cards: files can be dropped on it as on the canvas, and it is hidden as soon as there is a node.
Where even one row of cards has no room, a button opens the dialog with all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QEvent, QPointF, QRect, Qt, Signal, Slot
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ui.canvas.background import HINT_HEIGHT, LOW_HINT_HEIGHT
from ui.canvas.template_cards import GAP_PX, CardGrid
from ui.style.widgets import MutedLabel, scrolling

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

MARGIN_PX = 16
MOST_WIDE_PX = 1120
ALL = "New from Template…"


class TemplateStrip(QWidget):
    """Follows one canvas. ``chosen`` carries a template; ``all_wanted`` asks for the dialog."""

    chosen = Signal(object)
    all_wanted = Signal()

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self.grid: CardGrid | None = None
        self._hint = QRect()
        self.setObjectName("templates")
        self.setAccessibleName("Templates")
        self.setAcceptDrops(True)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self.label = MutedLabel("Or start from a template", self)
        self.label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.all = QPushButton(ALL, self)
        self.all.clicked.connect(self.all_wanted)
        self._column.addWidget(self.label)
        self._column.addWidget(self.all, 0, Qt.AlignmentFlag.AlignHCenter)
        self.hide()
        canvas.room_changed.connect(self.look)
        canvas.down_pressed.connect(self._take_keyboard)
        canvas.hint_room = self._hint_room

    @Slot()
    def look(self) -> None:
        """Show the cards if the canvas is empty, and fit them into it."""
        empty = not self._canvas.graph_scene.nodes
        if not empty or not self._canvas.isVisible():
            if self.isVisible() and self.isAncestorOf(self._canvas.window().focusWidget() or self):
                self._canvas.setFocus(Qt.FocusReason.OtherFocusReason)
            self.hide()
            return
        if self.grid is None:
            self._make()
        self._place()
        self.show()
        self.raise_()
        self._canvas.viewport().update()

    def _make(self) -> None:
        self.grid = CardGrid(self._canvas.registry, self)
        self.grid.chosen.connect(self.chosen)
        self.grid.left.connect(lambda: self._canvas.setFocus(Qt.FocusReason.TabFocusReason))
        self._scroll = scrolling(self.grid, self)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.viewport().setAutoFillBackground(False)
        self.grid.setAutoFillBackground(False)
        self._column.insertWidget(1, self._scroll, 1)
        for card in self.grid.cards:
            card.installEventFilter(self)

    def _place(self) -> None:
        """As many rows as fit below the hint; the others are reached by scrolling."""
        assert self.grid is not None
        room = self._canvas.viewport().geometry()
        width = min(room.width() - 2 * MARGIN_PX, MOST_WIDE_PX)
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        head = self.label.sizeHint().height() + self._column.spacing()
        rows = self.grid.heights(width - bar)
        wanted = sum(rows) + (len(rows) - 1) * GAP_PX
        free = room.height() - HINT_HEIGHT - 3 * MARGIN_PX - head
        hint = HINT_HEIGHT if free >= wanted else LOW_HINT_HEIGHT
        free += HINT_HEIGHT - hint
        cards = free >= rows[0] and width > 0
        self._scroll.setVisible(cards)
        self.label.setVisible(cards)
        self.all.setVisible(not cards)
        height = head + min(free, wanted) if cards else self.all.sizeHint().height()
        top = max(0, (room.height() - hint - height - MARGIN_PX) // 2)
        self._hint = QRect(0, top, room.width(), hint)
        left = room.x() + (room.width() - width) // 2
        self.setGeometry(left, room.y() + top + hint + MARGIN_PX, width, height)

    def _hint_room(self) -> QRect:
        """Where the hint is painted: above the cards, if they are shown."""
        room = self._canvas.viewport().rect()
        return self._hint if self.isVisible() else room

    @Slot()
    def _take_keyboard(self) -> None:
        """Down goes from the empty canvas to the cards."""
        if self.isVisible() and self.grid is not None:
            first = self.grid.cards[0]
            (first if first.isVisible() else self.all).setFocus(Qt.FocusReason.TabFocusReason)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Qt: scroll to the card that gets the keyboard."""
        if event.type() == QEvent.Type.FocusIn:
            self._scroll.ensureWidgetVisible(watched, 0, 0)
        return False

    # The strip takes drops for the canvas: Qt gives a drop to the widget under the mouse.

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Qt: as on the canvas."""
        self._canvas.dragEnterEvent(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Qt: as on the canvas."""
        self._canvas.dragMoveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """Qt: as on the canvas, at the same place."""
        at = self.mapTo(self._canvas, event.position().toPoint())
        place = QPointF(self._canvas.viewport().mapFrom(self._canvas, at))
        moved = QDropEvent(
            place, event.possibleActions(), event.mimeData(), event.buttons(), event.modifiers()
        )
        self._canvas.dropEvent(moved)
        if moved.isAccepted():
            event.acceptProposedAction()
