"""Drag and drop onto the canvas: node types from the palette, files and folders from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QMimeData, QPointF

from studio.graph.edits import set_setting
from ui.canvas import layout, palette
from ui.canvas.drops import is_data, joined, local_paths, sorted_out, source_of

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

GAP = 40.0


def suits(data: QMimeData) -> bool:
    """Whether the canvas accepts this drop."""
    return data.hasFormat(palette.MIME) or bool(local_paths(data))


def take(view: CanvasView, data: QMimeData, at: QPointF) -> bool:
    """Handle a drop at ``at`` (scene coordinates); False if there was nothing to do."""
    if data.hasFormat(palette.MIME):
        type_id = bytes(data.data(palette.MIME).data()).decode("utf-8", "replace")
        if type_id not in view.registry.nodes:
            return False
        view.add_node(type_id, held_at_header(at))
        return True
    paths = local_paths(data)
    if _replace_source(view, paths, at):
        return True
    nodes, others = sorted_out(paths, view.document)
    spot = held_at_header(at)
    ids = []
    for node in nodes:
        ids.append(view.editor.add(node.type_id, (spot.x(), spot.y()), node.settings))
        spot += QPointF(0, view.graph_scene.nodes[ids[-1]].card.height() + GAP)
    if ids:
        view.select(tuple(ids))
    if len(ids) == 1 and nodes[0].type_id == "dataset":
        view.data_dropped.emit(ids[0])
    if others:
        view.files_dropped.emit([str(path) for path in others])
    return bool(paths)


def _replace_source(view: CanvasView, paths: list[Path], at: QPointF) -> bool:
    """Data files dropped on a Dataset node replace its files."""
    document = view.document
    target = next(
        (n for n, item in view.graph_scene.nodes.items() if item.scene_card().contains(at)), None
    )
    if target is None or document.graph.node(target).type != "dataset":
        return False
    if not paths or not all(map(is_data, paths)) or not joined(paths, document):
        return False
    graph = set_setting(document.graph, target, "source", source_of(paths, document))
    document.end_merge()
    document.edit(graph, "Replace file")
    view.select((target,))
    view.data_dropped.emit(target)
    return True


def held_at_header(at: QPointF) -> QPointF:
    """The corner of a node whose header's middle is at ``at``."""
    return at - QPointF(layout.WIDTH / 2, layout.HEADER / 2)
