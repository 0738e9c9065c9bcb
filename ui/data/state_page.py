"""The page in place of rows or a report while there are none: the reason, and what to do.

It shows a sentence, a hint, progress and at most one button.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from ui.data.controller import DataController, Progress
from ui.data.token_words import left_words
from ui.style import icons, theme
from ui.style.widgets import MutedLabel, TextLabel, icon_side

NO_TRAIN = "Tokenization settings are missing."
NO_TRAIN_HINT = (
    "Connect this Dataset node to a Train node, and a Base model node to its “Model” input."
)


class StatePage(QWidget):
    """``pressed`` is emitted by its button."""

    pressed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon, self._color = "info", "text_muted"
        self._sign = QLabel(self)
        self.sentence = TextLabel("", self)
        self.sentence.setObjectName("data-state")
        self.hint = MutedLabel("", self)
        self.bar = QProgressBar(self)
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.button = QPushButton("Try Again", self)
        self.button.setObjectName("data-retry")
        self.button.clicked.connect(self.pressed)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 20, 16, 16)
        column.setSpacing(8)
        for widget in (self._sign, self.sentence, self.hint, self.bar):
            column.addWidget(widget)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch(1)
        theme.changed.connect(self._paint)

    def say(self, sentence: str, hint: str = "", icon: str = "info", button: str = "") -> None:
        """Show a sentence without progress."""
        self.sentence.setText(sentence)
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))
        self.bar.hide()
        self.button.setText(button)
        self.button.setVisible(bool(button))
        self._icon = icon
        self._color = {"circle-alert": "danger", "triangle-alert": "warning"}.get(
            icon, "text_muted"
        )
        self._paint()

    def show_progress(self, progress: Progress | None, title: str) -> None:
        """Show progress."""
        words = progress.title if progress is not None else title
        self.say(f"{words.removesuffix('…')}…", icon="loader")
        left = left_words(progress.eta_s) if progress is not None else ""
        self.hint.setText(left)
        self.hint.setVisible(bool(left))
        show_bar(self.bar, progress)
        self.bar.show()

    def show_state_of(self, controller: DataController) -> None:
        """Show why there are no data."""
        if controller.state == "failed" and controller.problem is not None:
            icon = "circle-alert"
            self.say(controller.problem.sentence, controller.problem.hint, icon, "Try Again")
        elif controller.state == "closed":
            self.say(NO_TRAIN, NO_TRAIN_HINT, "unlink")
        else:
            self.show_progress(controller.progress, "Loading the data…")

    def _paint(self) -> None:
        color = getattr(theme.colors(), self._color)
        side = icon_side(self, 1.5)
        self._sign.setPixmap(icons.pixmap(self._icon, side, color, self.devicePixelRatioF()))


class PageStack(QStackedWidget):
    """A page that shows either its state page or its content."""

    def __init__(self, page: QWidget, state: StatePage, full: QWidget) -> None:
        super().__init__(page)
        self.addWidget(state)
        self.addWidget(full)
        fill(page, self)

    def show_full(self, shown: bool) -> None:
        """Show the content, or the state page."""
        self.setCurrentIndex(1 if shown else 0)


def fill(page: QWidget, *parts: QWidget | QLayout) -> None:
    """Stack the parts vertically without margins; the last one takes the remaining space."""
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    for part in parts:
        stretch = int(part is parts[-1])
        if isinstance(part, QLayout):
            column.addLayout(part, stretch)
        else:
            column.addWidget(part, stretch)


def show_bar(bar: QProgressBar, progress: Progress | None) -> None:
    """Progress on a bar; it is indeterminate if the total is unknown."""
    bar.setMaximum(progress.total if progress is not None else 0)
    bar.setValue(progress.done if progress is not None else 0)
