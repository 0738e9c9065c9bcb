"""The dialog New from Template: all templates as cards. It only returns the chosen one."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from studio.graph import guide
from studio.graph.registry import Registry
from ui.canvas.template_cards import CardGrid
from ui.style import widgets
from ui.style.guide_link import explain
from ui.style.widgets import MutedLabel, scrolling

TITLE = "New from Template"
NOTE = (
    "Each template is a project with small data of its own that runs with the starter model on a CPU. "
    "Change its files and its base model to yours."
)


class NewFromTemplate(QDialog):
    """Emits ``chosen`` with a template, and closes."""

    chosen = Signal(object)

    def __init__(self, registry: Registry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("new-from-template")
        self.setWindowTitle(TITLE)
        explain(self, guide.PARTS["templates"])
        self.setAccessibleName(TITLE)
        self.setAccessibleDescription(NOTE)
        self.grid = CardGrid(registry, self)
        self.grid.chosen.connect(self._take)
        self._scroll = scrolling(self.grid, self)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(14)
        column.addWidget(MutedLabel(NOTE, self))
        column.addWidget(self._scroll, 1)
        column.addWidget(buttons)
        self._fit()
        self.grid.cards[0].setFocus(Qt.FocusReason.TabFocusReason)

    def _fit(self) -> None:
        """Wide enough for four cards, and as high as they need, within the screen."""
        room = widgets.room_on_screen(self)
        width = min(self.fontMetrics().horizontalAdvance("0") * 4 * 30, room.width())
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        inside = width - 36 - bar
        rows = self.grid.heights(inside)
        self.resize(width, min(sum(rows) + 10 * len(rows) + 140, room.height()))

    def _take(self, template: object) -> None:
        self.accept()
        self.chosen.emit(template)
