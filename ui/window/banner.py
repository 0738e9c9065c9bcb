"""A line over the top of the canvas with an offer, such as to resume a run or to recover changes.

Unlike a dialog it blocks nothing, and the canvas stays where it is. It shows one offer at a time; a newer one
replaces it, unless it must be answered: then the newest of the others waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, QObject, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from studio import shown_text
from ui.style import icons, theme
from ui.style.guide_link import GuideButton, explain
from ui.style.widgets import TextLabel, plain_tip

Offer = tuple[str, Callable[[], object]]
MOST_SHARE, LEAST_LINES = 0.6, 4
LEAST_DIGITS = 32  # of the sentence and its icons beside the buttons
_ROLES = {
    "circle-alert": "danger",
    "circle-x": "danger",
    "triangle-alert": "warning",
    "circle-stop": "warning",
    "circle-check": "success",
}
"""Icon -> the theme colour of the banner; others have the accent colour."""


class Banner(QFrame):
    """Icon, sentence, buttons, and a cross to dismiss it, over the top of its parent. Hidden without an offer.

    ``covers`` carries the height that it hides."""

    covers = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self.key = ""
        self._must_answer = False
        self._waiting: tuple[str, str, str, Sequence[Offer], str] | None = None
        self._icon = QLabel(self)
        self._icon_name = "info"
        self._sentence = ""
        self._text = TextLabel("", self)
        self._text.setMinimumWidth(60)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(12, 5, 6, 5)
        self._column.setSpacing(4)
        self._row, self._below = QHBoxLayout(), QHBoxLayout()
        self._below.addStretch(1)
        for row in (self._row, self._below):
            row.setSpacing(8)
            self._column.addLayout(row)
        self._row.addWidget(self._icon)
        self._row.addWidget(self._text, 1)
        self._buttons: list[QPushButton] = []
        self._guide = GuideButton(self)
        self._row.addWidget(self._guide)
        self._cross = QToolButton(self)
        self._cross.setAutoRaise(True)
        self._cross.setToolTip("Dismiss")
        self._cross.setAccessibleName("Dismiss")
        icons.put(self._cross, "x")
        self._cross.clicked.connect(self._answered)
        self._row.addWidget(self._cross)
        theme.changed.connect(self._color)
        self._color()
        if parent is not None:
            parent.installEventFilter(self)
        self.hide()

    def offer(
        self,
        key: str,
        icon: str,
        sentence: str,
        offers: Sequence[Offer] = (),
        *,
        must_answer: bool = False,
        guide: str = "",
    ) -> None:
        """Show a sentence with buttons; pressing one dismisses the banner first. With
        ``must_answer`` it stays until one of its buttons is pressed. ``guide`` is the place of the guide that
        explains it."""
        if self._must_answer and not must_answer:
            self._waiting = (key, icon, sentence, offers, guide)
            return
        self._clear()
        self.key, self._must_answer = key, must_answer
        self._icon_name = icon
        sentence = self._sentence = shown_text.sentence(sentence)
        self.setAccessibleName(sentence)
        for title, act in offers:
            self._add(title, act)
        self._guide.show_place(guide)
        explain(self, guide)
        self._color()
        self._fit()
        self.raise_()
        self.show()
        self.covers.emit(self.height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: the parent has another size."""
        if event.type() == QEvent.Type.Resize:
            self._fit()
        return super().eventFilter(watched, event)

    def _fit(self) -> None:
        """As wide as the parent, and as high as the sentence needs at this width, within limits."""
        parent = self.parentWidget() or self
        width, room = parent.width(), self._room()
        self._place_buttons(width)
        self._text.setText(self._sentence)
        self._text.setToolTip("")
        words = self._sentence.split(" ")
        while self._needed(width) > room and len(words) > 1:
            words.pop()
            self._text.setText(" ".join(words) + " …")
            self._text.setToolTip(plain_tip(self._sentence))
        self.setFixedHeight(self._needed(width))
        self.resize(width, self.height())

    def _needed(self, width: int) -> int:
        """The height of the present text and buttons."""
        for layout in (self._row, self._below, self._column):
            layout.invalidate()  # Qt does so for the outer one only, and later for those in it
        return self._column.totalHeightForWidth(width)

    def _place_buttons(self, width: int) -> None:
        """The buttons lie beside the sentence, or below it where that would be too narrow."""
        taken = sum(b.sizeHint().width() + self._row.spacing() for b in self._buttons)
        beside = width - taken >= LEAST_DIGITS * self.fontMetrics().horizontalAdvance("0")
        for place, button in enumerate(self._buttons):
            self._row.removeWidget(button)
            self._below.removeWidget(button)
            row, first = (self._row, 2) if beside else (self._below, 1)
            row.insertWidget(first + place, button)

    def _room(self) -> int:
        """The height that a long sentence may take: much of the canvas must stay visible."""
        parent, line = self.parentWidget() or self, self.fontMetrics().lineSpacing()
        return max(round(MOST_SHARE * parent.height()), LEAST_LINES * line)

    def _add(self, title: str, act: Callable[[], object]) -> None:
        button = QPushButton(title, self)
        button.clicked.connect(lambda: self._pressed(act))
        self._buttons.append(button)

    def _pressed(self, act: Callable[[], object]) -> None:
        self._answered()
        act()

    def _answered(self) -> None:
        """The offer was answered: show the waiting one."""
        self._clear()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.offer(*waiting[:4], guide=waiting[4])

    def dismiss(self, key: str | None = None) -> None:
        """Dismiss an offer that need not be answered; with a key, only that offer."""
        if self._waiting is not None and key in (None, self._waiting[0]):
            self._waiting = None
        if key == self.key:
            self._answered()
        elif key is None and not self._must_answer:
            self._clear()

    def _clear(self) -> None:
        self.key, self._must_answer = "", False
        self.hide()
        self.covers.emit(0)
        for button in self._buttons:
            button.hide()
            button.deleteLater()
        self._buttons = []

    def text(self) -> str:
        """The shown sentence, or an empty text."""
        return self._sentence if not self.isHidden() else ""

    def button(self, title: str) -> QPushButton:
        """The button with this title."""
        return next(b for b in self._buttons if b.text() == title)

    def _color(self) -> None:
        look = theme.colors()
        color: QColor = getattr(look, _ROLES.get(self._icon_name, "accent"))
        back = theme.blend(look.surface, color, 0.14).name()
        self.setStyleSheet(
            f"#banner {{ background: {back}; border: none;"
            f" border-bottom: 1px solid {look.border.name()}; }}"
        )
        self._icon.setPixmap(icons.pixmap(self._icon_name, 16, color, self.devicePixelRatioF()))
