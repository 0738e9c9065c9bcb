"""One finding of the report as a card: severity, sentence, rows, and the button that fixes it.

Icon, word and colour show the severity. It edits nothing and only emits signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QFont
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from studio.graph import guide
from studio.preview.report import Finding, Place
from ui.style import icons, theme
from ui.style.guide_link import GuideLink
from ui.style.widgets import TextLabel, icon_side

SEVERITY = {
    "error": ("circle-alert", "Error", "danger"),
    "warning": ("triangle-alert", "Warning", "warning"),
    "info": ("info", "Note", "accent"),
}
_ROWS_SHOWN = 8


class FindingCard(QFrame):
    """``row_wanted`` carries a row's number, ``fix_wanted`` a ``Fix``."""

    row_wanted = Signal(object)
    fix_wanted = Signal(object)

    def __init__(self, finding: Finding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.finding = finding
        self.setObjectName(f"finding:{finding.code}")
        icon, word, self._role = SEVERITY[finding.severity]
        self._icon = icon
        self._sign = QLabel(self)
        self._title = TextLabel(f"{word}: {finding.title}", self)
        font = QFont(self._title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self._title.setFont(font)
        self.sentence = TextLabel(finding.sentence, self)
        self.setAccessibleName(f"{word}: {finding.title}. {finding.sentence}")
        top = QHBoxLayout()
        top.setSpacing(7)
        top.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        top.addWidget(self._title, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 9, 10, 10)
        column.setSpacing(5)
        column.addLayout(top)
        column.addWidget(self.sentence)
        if finding.rows:
            links = RowLinks(finding.rows, finding.count, self)
            links.row_wanted.connect(self.row_wanted)
            column.addWidget(links)
        self.fix_button: QPushButton | None = None
        if finding.fix is not None:
            row = QHBoxLayout()
            row.setSpacing(8)
            row.addWidget(self._fix_button(), 0, Qt.AlignmentFlag.AlignTop)
            row.addWidget(TextLabel(finding.fix.title, self), 1)
            column.addLayout(row)
        if place := guide.FINDINGS.get(finding.code, ""):
            column.addWidget(GuideLink(place, self))
        theme.changed.connect(self._color)
        self._color()

    def _fix_button(self) -> QPushButton:
        fix = self.finding.fix
        assert fix is not None
        button = QPushButton("Fix", self)
        button.setObjectName(f"fix:{fix.id}")
        button.setAccessibleName(f"Fix: {fix.title}")
        button.setToolTip(f"{fix.title}. Undo reverts it.")
        button.setStyleSheet("QPushButton { padding: 3px 10px; }")
        icons.put(button, "check", "success")
        button.clicked.connect(lambda: self.fix_wanted.emit(fix))
        self.fix_button = button
        return button

    def _color(self) -> None:
        look = theme.colors()
        color: QColor = getattr(look, self._role)
        side = icon_side(self, 1.0)
        self._sign.setPixmap(icons.pixmap(self._icon, side, color, self.devicePixelRatioF()))
        self.setStyleSheet(
            f"FindingCard {{ background: {look.surface_raised.name()}; border: 1px solid "
            f"{look.border.name()}; border-left: 3px solid {color.name()}; border-radius: 6px; }}"
        )


class RowLinks(QLabel):
    """Rows as links: number and line; ``row_wanted`` carries the number of a clicked one."""

    row_wanted = Signal(object)

    def __init__(self, rows: Sequence[Place], count: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("row-links")
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setWordWrap(True)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.LinksAccessibleByMouse
            | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        notes = len({place.note for place in rows}) > 1 or len(rows) == 1
        links = [_link(place, notes) for place in rows[:_ROWS_SHOWN]]
        more = count - len(links)
        self.setText(" · ".join(links) + (f" · {more:,} more" if more > 0 else ""))
        self.setToolTip("Click a row to see its tokens")
        self.linkActivated.connect(lambda link: self.row_wanted.emit(int(link)))


def _link(place: Place, notes: bool) -> str:
    """``notes``: with the note, which says nothing where all rows have the same one."""
    line = f" (line {place.line})" if place.line and place.line != place.number else ""
    other = f" like row {place.other}" if place.other else ""
    note = f": {escape(place.note)}" if place.note and notes else other
    title = escape(f"{Path(place.source).name} line {place.line}")
    return f'<a href="{place.number}" title="{title}">Row {place.number}</a>{line}{note}'
