"""The node for a dropped file or folder: a dataset, a base model, or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QMimeData

from studio.data.reading.file_types import kind_of_name
from studio.data.reading.folder import holds_data, parts_of
from studio.graph.document import Document


@dataclass(frozen=True)
class DroppedNode:
    """A node to add for a dropped path."""

    type_id: str
    settings: dict[str, str]


def node_for(path: Path, document: Document) -> DroppedNode | None:
    """The node that suits a path, or ``None``."""
    if path.is_dir():
        model = _model_in(path)
        if model is not None:
            return DroppedNode("base_model", {"model": _model(model, document)})
        return dataset_for([path], document) if holds_data(path) else None
    suffix = path.suffix.lower()
    if is_data(path):
        return dataset_for([path], document)
    if suffix == ".gguf":
        return DroppedNode("base_model", {"model": _model(path, document)})
    if suffix == ".safetensors" and (path.parent / "config.json").is_file():
        return DroppedNode("base_model", {"model": _model(path.parent, document)})
    return None


def is_data(path: Path) -> bool:
    """Whether a path is a file or folder of examples."""
    if path.is_dir():
        return _model_in(path) is None and holds_data(path)
    return kind_of_name(path) is not None


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


def _model(path: Path, document: Document) -> str:
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
