"""Problems as text: a sign, a sentence in red or amber, and the hint. Never a modal window."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph import guide
from studio.system.optional_packages import of_problem
from ui.style import icons, theme
from ui.style.guide_link import GuideLink
from ui.style.install_button import InstallButton
from ui.style.widgets import MutedLabel, TextLabel, clear, icon_side


class ProblemLabel(QWidget):
    """One Problem: sign, sentence, hint."""

    def __init__(self, problem: Problem, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._problem = problem
        self._sign = QLabel(self)
        self._sentence = TextLabel(problem.sentence, self)
        self._sentence.setObjectName("problem")
        self._sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        words = QVBoxLayout()
        words.setSpacing(1)
        words.addWidget(self._sentence)
        if problem.hint:
            words.addWidget(MutedLabel(problem.hint, self))
        if package := of_problem(problem.code):
            words.addWidget(InstallButton(package, self), 0, Qt.AlignmentFlag.AlignLeft)
        if place := guide.of_problem(problem.code):
            words.addWidget(GuideLink(place, self))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 1, 0, 2)
        row.setSpacing(6)
        row.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        theme.changed.connect(self._paint)
        self._paint()

    def _paint(self) -> None:
        colors = theme.colors()
        color = colors.danger if self._problem.blocks else colors.warning
        name = "circle-alert" if self._problem.blocks else "triangle-alert"
        self._sign.setPixmap(icons.pixmap(name, icon_side(self), color, self.devicePixelRatioF()))
        palette = QPalette(self._sentence.palette())
        palette.setColor(QPalette.ColorRole.WindowText, color)
        self._sentence.setPalette(palette)


class ProblemList(QWidget):
    """The Problems of one place, one beneath the other; hidden when there are none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Problem, ...] = ()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self.hide()

    def show_problems(self, problems: Sequence[Problem]) -> None:
        """Show these Problems, each sentence once; nothing is rebuilt when they are the same."""
        once = tuple({p.sentence: p for p in problems}.values())
        if once == self._shown:
            return
        self._shown = once
        clear(self._column)
        for problem in once:
            label = ProblemLabel(problem, self)
            self._column.addWidget(label)
            label.show()
        self.setVisible(bool(once))

    def text(self) -> str:
        """All sentences, for screen readers."""
        return " ".join(p.sentence for p in self._shown)
