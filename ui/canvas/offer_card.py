"""A small card on the canvas with a sentence and buttons, beside a node or where something was dropped.

It asks without blocking: the canvas can still be used, Esc and the cross dismiss it. It follows its place while the
view is moved, and stays in view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QRect, Qt, QTimer
from PySide6.QtGui import QFont, QKeyEvent, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QToolButton, QVBoxLayout

from ui.style import icons, theme
from ui.style.widgets import MutedLabel, TextLabel, clear, tab_order

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

_WIDTH_IN_DIGITS = 36
_GAP_PX = 14
_EDGE_PX = 8


@dataclass(frozen=True)
class Answer:
    """A button: its text, what it does, and a tip."""

    words: str
    act: Callable[[], object]
    tip: str = ""


class OfferCard(QFrame):
    """Hidden until something is offered; a newer offer replaces an older one."""

    def __init__(self, view: CanvasView) -> None:
        super().__init__(view.viewport())
        self.setObjectName("offer-card")
        self._view = view
        self.key = ""
        self._place: str | QPointF = ""
        self.buttons: list[QPushButton] = []
        self._sentence = TextLabel("", self)
        self._sentence.setObjectName("offer-sentence")
        font = QFont(self._sentence.font())
        font.setWeight(QFont.Weight.DemiBold)
        self._sentence.setFont(font)
        self._detail = MutedLabel("", self)
        self._cross = QToolButton(self)
        self._cross.setAutoRaise(True)
        self._cross.setToolTip("Dismiss (Esc)")
        self._cross.setAccessibleName("Dismiss")
        icons.put(self._cross, "x")
        self._cross.clicked.connect(self.dismiss)
        top = QHBoxLayout()
        top.addWidget(self._sentence, 1)
        top.addWidget(self._cross, 0, Qt.AlignmentFlag.AlignTop)
        self._answers = QVBoxLayout()
        self._answers.setSpacing(6)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(14, 10, 8, 12)
        self._column.setSpacing(6)
        self._column.addLayout(top)
        self._column.addWidget(self._detail)
        self._column.addLayout(self._answers)
        self.setCursor(Qt.CursorShape.ArrowCursor)
        view.viewport().installEventFilter(self)
        theme.changed.connect(self._color)
        self._color()
        self.hide()

    def offer(
        self,
        key: str,
        sentence: str,
        detail: str,
        answers: Sequence[Answer],
        place: str | QPointF,
    ) -> None:
        """Show an offer at a node or at a point of the scene."""
        self.key, self._place = key, place
        self._sentence.setText(sentence)
        self._detail.setText(detail)
        self._detail.setVisible(bool(detail))
        self.setAccessibleName(f"{sentence} {detail}".strip())
        clear(self._answers)
        self.buttons = [self._button(answer) for answer in answers]
        self.buttons[0].setProperty("primary", True)
        for button in self.buttons:
            self._answers.addWidget(button)
        tab_order(*self.buttons, self._cross)
        width = self.fontMetrics().horizontalAdvance("0") * _WIDTH_IN_DIGITS
        self.setFixedWidth(max(width, self._column.totalMinimumSize().width()))
        if self._needed_height() > self._view.viewport().height() - 2 * _EDGE_PX:
            self._detail.hide()
        self.setFixedHeight(self._needed_height())
        self.show()
        self.raise_()
        self.follow()

    def _needed_height(self) -> int:
        return self._column.totalHeightForWidth(self.width())

    def dismiss(self) -> None:
        """Hide the card; the canvas gets the focus back."""
        focused = self.has_focus()
        self.key = ""
        self.hide()
        if focused:
            self._view.setFocus(Qt.FocusReason.OtherFocusReason)

    def has_focus(self) -> bool:
        """Whether a button of the card has the focus of the window."""
        focused = self._view.window().focusWidget()
        return focused is not None and self.isAncestorOf(focused)

    def text(self) -> str:
        """The shown sentence, or an empty text."""
        return self._sentence.text() if not self.isHidden() else ""

    def button(self, words: str) -> QPushButton:
        """The button with this text."""
        return next(b for b in self.buttons if b.text() == words)

    def follow(self) -> None:
        """Move beside, below or above the node or point, where it covers the least of it; always into view."""
        if self.isHidden():
            return
        place = self._around()
        if place is None:
            self.dismiss()
            return
        room = self._view.viewport().rect().adjusted(_EDGE_PX, _EDGE_PX, -_EDGE_PX, -_EDGE_PX)
        corners = (
            QPoint(place.right() + _GAP_PX, place.top()),
            QPoint(place.left() - _GAP_PX - self.width(), place.top()),
            QPoint(place.left(), place.bottom() + _GAP_PX),
            QPoint(place.left(), place.top() - _GAP_PX - self.height()),
        )
        inside = [self._clamped(corner, room) for corner in corners]
        at = min(inside, key=lambda corner: self._covers(corner, place))
        if at != self.pos():
            self.move(at)

    def _clamped(self, corner: QPoint, room: QRect) -> QPoint:
        x = max(room.left(), min(corner.x(), room.right() + 1 - self.width()))
        return QPoint(x, max(room.top(), min(corner.y(), room.bottom() + 1 - self.height())))

    def _covers(self, corner: QPoint, place: QRect) -> int:
        """The area (square pixels) that the card would cover of what it lies beside."""
        common = QRect(corner, self.size()).intersected(place)
        return max(0, common.width()) * max(0, common.height())

    def _around(self) -> QRect | None:
        """What the card lies beside, in view pixels; ``None`` if the node is gone."""
        if isinstance(self._place, QPointF):
            at = self._view.viewportTransform().map(self._place).toPoint()
            return QRect(at, at)
        if self._place not in self._view.graph_scene.nodes:
            return None
        return self._view.node_rect_in_view(self._place)

    def _button(self, answer: Answer) -> QPushButton:
        button = QPushButton(answer.words, self)
        button.setAutoDefault(False)
        button.setToolTip(answer.tip)
        button.setAccessibleDescription(answer.tip)
        button.clicked.connect(lambda: self._pressed(answer.act))
        return button

    def _pressed(self, act: Callable[[], object]) -> None:
        self.dismiss()
        act()

    def _color(self) -> None:
        look = theme.colors()
        self.setStyleSheet(
            f"#offer-card {{ background: {look.surface.name()}; border-radius: 10px;"
            f" border: 1px solid {look.accent.name()}; }}"
        )

    # ------------------------------------------------------------ Qt

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: whatever moves the node or the view repaints the viewport."""
        if not self.isHidden() and event.type() in (QEvent.Type.Paint, QEvent.Type.Resize):
            QTimer.singleShot(0, self, self.follow)
        return super().eventFilter(watched, event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Esc dismisses; Enter presses the focused button."""
        focused = self.focusWidget()
        if event.key() == Qt.Key.Key_Escape:
            self.dismiss()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and isinstance(
            focused, QPushButton | QToolButton
        ):
            focused.click()
        event.accept()  # nothing goes to the canvas below

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: a press beside the buttons is none on the canvas."""
        event.accept()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Qt: as the press."""
        event.accept()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Qt: as the press."""
        event.accept()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Qt: the canvas below stays."""
        event.accept()
