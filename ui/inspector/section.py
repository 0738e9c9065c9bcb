"""A titled part of a form that can be collapsed. It does not depend on its content."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ui.style import icons
from ui.style.widgets import icon_side, plain_tip

_GAP_PX = 10


class Section(QWidget):
    """A header button that shows and hides a column of widgets."""

    folded = Signal(object)

    def __init__(self, title: str, expanded: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = self._text = title
        self._header = QPushButton(self)
        self._header.setObjectName(f"section:{title}")
        self._header.setCheckable(True)
        side = icon_side(self)
        self._header.setIconSize(QSize(side, side))
        self._header.setFlat(True)
        self._header.setAutoDefault(False)
        self._header.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._header.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._header.setStyleSheet(
            "QPushButton { background: transparent; border: 1px solid transparent; padding: 3px 0;"
            " text-align: left; font-weight: 600; border-radius: 4px; }"
            "QPushButton:focus { border-color: palette(highlight); }"
        )
        self._body = QWidget(self)
        self.column = QVBoxLayout(self._body)
        self.column.setContentsMargins(0, 2, 0, 4)
        self.column.setSpacing(_GAP_PX)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self._header)
        outer.addWidget(self._body)
        self._header.toggled.connect(self._fold)
        self.set_note("")
        self._header.setChecked(expanded)
        self._fold(expanded)

    @property
    def expanded(self) -> bool:
        """Whether the content is shown."""
        return self._header.isChecked()

    def expand(self) -> None:
        """Show the content."""
        self._header.setChecked(True)

    def set_note(self, note: str) -> None:
        """Show a note after the title, such as “2 changed”."""
        self._text = f"{self._title} · {note}" if note else self._title
        self._header.setAccessibleName(self._text)
        self._header.setToolTip(plain_tip(note))
        self._elide()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: shorten a note that does not fit; the tip shows all of it."""
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        metrics = self._header.fontMetrics()
        room = self._header.width() - self._header.iconSize().width() - _GAP_PX
        self._header.setText(metrics.elidedText(self._text, Qt.TextElideMode.ElideRight, room))

    def _fold(self, expanded: bool) -> None:
        icons.put(self._header, "chevron-down" if expanded else "chevron-right", "text_muted")
        self._header.setAccessibleDescription("Expanded" if expanded else "Collapsed")
        self._body.setVisible(expanded)
        self.folded.emit(expanded)
