"""The name of the shown node above its settings and data: icon, title to edit, and its page of the guide."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QWidget

from studio.graph import guide
from studio.graph.graph import Node
from studio.graph.node_type import NodeType
from studio.graph.schema import Settings
from ui.inspector.editors.base import is_undo_key
from ui.style import icons, theme
from ui.style.guide_link import GuideButton, explain
from ui.style.widgets import icon_side, plain_tip


class TitleEdit(QLineEdit):
    """A title that is edited in place; undo belongs to the document."""

    left = Signal()

    def __init__(self, words: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(words)
        font = self.font()
        font.setBold(True)
        self.setFont(font)

    def event(self, event: QEvent) -> bool:
        """Qt: leave undo keys to the window; emit a signal when the focus is lost."""
        if is_undo_key(event):
            event.ignore()
            return False
        if event.type() == QEvent.Type.FocusOut:
            self.left.emit()
        handled = super().event(event)
        if event.type() == QEvent.Type.FocusIn and not self.hasSelectedText():
            self.end(False)  # where typing goes on
        return handled

    def show_text(self, text: str) -> None:
        """Show a text that may have been trimmed; the caret stays while it means the same."""
        if self.text().strip() != text:
            self.setText(text)
            if not self.hasFocus():
                self.setCursorPosition(0)  # a long title is shown from its beginning


class NodeHeader(QWidget):
    """The header of the shown node."""

    retitled = Signal(object)
    left = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon_name = "box"
        self._category = ""
        self._icon = QLabel(self)
        self._title = TitleEdit("Node title", self)
        self._title.setObjectName("node-title")
        self._title.textEdited.connect(self.retitled.emit)
        self._title.left.connect(self.left)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 2)
        row.setSpacing(8)
        row.addWidget(self._icon)
        row.addWidget(self._title, 1)
        self._guide = GuideButton(self)
        row.addWidget(self._guide)
        self.hide()
        theme.changed.connect(self._paint)

    def show_node(self, node: Node, node_type: NodeType[Settings] | None) -> None:
        """Show a node's icon and title; a tip names its type, and the node on the command line."""
        self._icon_name = icons.known(node_type.icon) if node_type else "puzzle"
        self._category = node_type.category if node_type else ""
        kind = node_type.title if node_type else node.type
        self._title.setPlaceholderText(kind)
        if node.title or self._title.text().strip() or not self._title.hasFocus():
            self._title.show_text(node.title or kind)
        words = f"{kind} node. Command line: --set {node.id}.SETTING=VALUE"
        for widget in (self._icon, self._title):
            widget.setToolTip(plain_tip(words))
        self._title.setAccessibleDescription(words)
        place = guide.of_node(node.type)
        self._guide.show_place(place)
        explain(self, place)
        self._paint()

    def set_read_only(self, read_only: bool) -> None:
        """Show only, or let the user rename."""
        self._title.setReadOnly(read_only)

    def _paint(self) -> None:
        color = theme.colors().category(self._category)
        ratio = self.devicePixelRatioF()
        self._icon.setPixmap(icons.pixmap(self._icon_name, icon_side(self, 1.4), color, ratio))
