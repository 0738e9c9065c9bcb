"""The context menu: actions on a node or wire, the search palette on empty canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtWidgets import QMenu

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

_NODE = ("rename", "duplicate", "", "cut", "copy", "paste", "", "frame", "delete")
_WIRE = ("delete",)


def open_menu(view: CanvasView, at: QPointF, on_screen: QPoint, by_key: bool) -> QMenu | None:
    """Open the menu for the place ``at`` (viewport pixels), or by key for the current node."""
    scene = view.graph_scene
    point = view.camera.to_scene(at)
    node = scene.nodes.get(view.current_id() or "") if by_key else scene.node_at(point)
    wire = scene.wire_at(point) if node is None else None
    if node is not None and not node.selected:
        view.select((node.id,))
    elif wire is not None:
        view.select((), (wire.wire,))
    if node is None and wire is None:
        view.finder.open(at)
        return None
    menu = QMenu(view)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for name in _NODE if node is not None else _WIRE:
        if name:
            menu.addAction(view.actions()[name])
        else:
            menu.addSeparator()
    if by_key and node is not None:
        on_screen = view.viewport().mapToGlobal(view.node_rect_in_view(node.id).center())
    menu.popup(on_screen)
    return menu
