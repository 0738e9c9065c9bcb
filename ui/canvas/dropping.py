"""Drag and drop onto the canvas: node types from the palette, files and folders from outside.

A dropped path becomes a Dataset node, a Base model node, a Load Adapter node, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QMimeData, QPointF

from studio.data.reading.archive import is_archive
from studio.data.reading.file_types import kind_of_name
from studio.data.reading.folder import holds_data, parts_of
from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.model.adapter_files import CONFIG, WEIGHTS
from studio.recipe.train_on import is_adapter
from ui.canvas import layout, palette

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

GAP = 40.0


@dataclass(frozen=True)
class DroppedNode:
    """A node to add for a dropped path."""

    type_id: str
    settings: dict[str, str]


def node_for(path: Path, document: Document) -> DroppedNode | None:
    """The node that suits a path, or ``None``."""
    if path.name in (CONFIG, WEIGHTS) and is_adapter(path.parent):
        path = path.parent
    if is_adapter(path):
        return DroppedNode("load_adapter", {"adapter": model_written(path, document)})
    if path.is_dir():
        model = _model_in(path)
        if model is not None:
            return DroppedNode("base_model", {"model": model_written(model, document)})
        return dataset_for([path], document) if holds_data(path) else None
    suffix = path.suffix.lower()
    if is_data(path):
        return dataset_for([path], document)
    if suffix == ".gguf":
        return DroppedNode("base_model", {"model": model_written(path, document)})
    if suffix == ".safetensors" and (path.parent / "config.json").is_file():
        return DroppedNode("base_model", {"model": model_written(path.parent, document)})
    return None


def is_data(path: Path) -> bool:
    """Whether a path is a file or folder of examples."""
    if path.name == CONFIG or is_adapter(path):
        return False
    if path.is_dir():
        return _model_in(path) is None and holds_data(path)
    return kind_of_name(path) is not None or is_archive(path)


def dataset_for(paths: Sequence[Path], document: Document) -> DroppedNode:
    """One Dataset node that reads all these files."""
    return DroppedNode("dataset", {"source": source_of(paths, document)})


def source_of(paths: Sequence[Path], document: Document) -> str:
    """The files as a Dataset node's “source” names them."""
    return "; ".join(_written(path, document) for path in paths)


def joined(paths: Sequence[Path], document: Document) -> bool:
    """Whether several files can be listed in one source: no name contains the separator."""
    return len(parts_of(source_of(paths, document), document.project_dir)) == len(paths)


def _model_in(folder: Path) -> Path | None:
    """The model in a folder: the folder itself, or its only GGUF file."""
    if (folder / "config.json").is_file():
        return folder
    files = sorted(folder.glob("*.gguf"))
    return files[0] if len(files) == 1 else None


def model_written(path: Path, document: Document) -> str:
    """As ``_written``, but never ambiguous with a Hub ID such as ``owner/name``."""
    written = _written(path, document)
    return written if Path(written).is_absolute() else f"./{written}"


def _written(path: Path, document: Document) -> str:
    """Relative to the saved project where the file lies in its folder, else absolute."""
    if document.path is not None:
        try:
            return path.resolve().relative_to(document.project_dir.resolve()).as_posix()
        except ValueError:
            pass
    return str(path)


def local_paths(data: QMimeData) -> list[Path]:
    """The local files of a drop."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]


def sorted_out(paths: Iterable[Path], document: Document) -> tuple[list[DroppedNode], list[Path]]:
    """The nodes to add, and the paths that someone else must handle. Several files of examples
    become one Dataset node."""
    nodes: list[DroppedNode] = []
    paths = list(paths)
    data = [p for p in paths if is_data(p)]
    if len(data) > 1 and joined(data, document):
        nodes.append(dataset_for(data, document))
        paths = [p for p in paths if p not in data]
    others: list[Path] = []
    for path in paths:
        node = node_for(path, document)
        if node is None:
            others.append(path)
        else:
            nodes.append(node)
    return nodes, others


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
    nodes, others = sorted_out(_after_asking(view, paths, at), view.document)
    spot = held_at_header(at)
    ids = []
    for node in nodes:
        ids.append(view.editor.add(node.type_id, (spot.x(), spot.y()), node.settings))
        spot += QPointF(0, view.graph_scene.nodes[ids[-1]].card.height() + GAP)
    if ids:
        view.select(tuple(ids))
    if len(ids) == 1 and nodes[0].type_id == "dataset":
        view.data_dropped.emit(ids[0])
    if len(ids) == 1 and nodes[0].type_id == "load_adapter":
        view.adapter_dropped.emit(ids[0])
    if others:
        view.files_dropped.emit([str(path) for path in others])
    return bool(paths)


def _after_asking(view: CanvasView, paths: list[Path], at: QPointF) -> list[Path]:
    """Ask what data is for in a project that has data; returns the other paths."""
    data = [p for p in paths if is_data(p)]
    has_data = any(n.type == "dataset" for n in view.document.graph.nodes)
    if not data or not has_data or view.ask_about_data is None or not joined(data, view.document):
        return paths
    view.ask_about_data(data, at)
    return [p for p in paths if p not in data]


def add_dataset(view: CanvasView, paths: Sequence[Path], at: QPointF) -> None:
    """Add one Dataset node that reads these files, and show it."""
    node = dataset_for(paths, view.document)
    spot = held_at_header(at)
    view.select((view.editor.add(node.type_id, (spot.x(), spot.y()), node.settings),))
    view.data_dropped.emit(view.selected_ids()[0])


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
