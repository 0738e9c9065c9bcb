"""A titled part of a form that folds away. It must not know what is in it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget

_GAP_PX = 10


class Section(QWidget):
    """A header button that shows and hides a column of widgets."""

    folded = Signal(object)

    def __init__(self, title: str, expanded: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._header = QToolButton(self)
        self._header.setObjectName(f"section:{title}")
        self._header.setCheckable(True)
        self._header.setAutoRaise(True)
        self._header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._header.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._header.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._header.setStyleSheet(
            "QToolButton { padding: 3px 2px; font-weight: 600; text-align: left; }"
            "QToolButton:checked:!hover { background: transparent; }"
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
        """A few words after the title, such as “2 changed”."""
        text = f"{self._title} · {note}" if note else self._title
        self._header.setText(text)
        self._header.setAccessibleName(text)

    def _fold(self, expanded: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if expanded else Qt.ArrowType.RightArrow
        self._header.setArrowType(arrow)
        self._header.setAccessibleDescription("Expanded" if expanded else "Collapsed")
        self._body.setVisible(expanded)
        self.folded.emit(expanded)
