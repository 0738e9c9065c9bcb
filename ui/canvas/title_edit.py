"""Renaming a node in place: one line edit over the view, never a widget inside the scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QRectF, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QLineEdit

from ui.canvas import layout

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


class TitleEdit(QObject):
    """Opens the line, and renames when Enter is pressed or the focus leaves; Esc cancels."""

    def __init__(self, view: CanvasView) -> None:
        super().__init__(view)
        self._view = view
        self._node_id = ""
        self.line = QLineEdit(view.viewport())
        self.line.setAccessibleName("Node title")
        self.line.hide()
        self.line.installEventFilter(self)
        self.line.editingFinished.connect(self._take)

    def edit(self, node_id: str) -> None:
        """Start on a node."""
        item = self._view.graph_scene.nodes[node_id]
        self._node_id = node_id
        header = QRectF(item.pos().x(), item.pos().y(), layout.WIDTH, layout.HEADER)
        rect = self._view.viewportTransform().mapRect(header).toAlignedRect()
        rect.setSize(rect.size().expandedTo(self.line.minimumSizeHint()))
        rect.setWidth(max(rect.width(), 160))
        self.line.setGeometry(rect)
        self.line.setText(item.content.title)
        self.line.selectAll()
        self.line.show()
        self.line.setFocus(Qt.FocusReason.OtherFocusReason)

    def close(self) -> None:
        """Leave without a change."""
        self._node_id = ""
        had_focus = self.line.hasFocus()
        self.line.hide()
        if had_focus:
            self._view.setFocus(Qt.FocusReason.OtherFocusReason)

    def _take(self) -> None:
        node_id, text = self._node_id, self.line.text()
        self.close()
        if node_id and self._view.document.graph.has(node_id):
            self._view.editor.retitle(node_id, text)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: Esc closes the line and goes no further."""
        pressed = event.type() == QEvent.Type.KeyPress
        if pressed and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            self.close()
            return True
        return super().eventFilter(watched, event)
