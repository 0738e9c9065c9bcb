"""What a dropped file or folder becomes: a dataset, a base model, or nothing the canvas knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QMimeData

from studio.graph.document import Document

DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class DroppedNode:
    """A node to add for a dropped path."""

    type_id: str
    settings: dict[str, str]


def node_for(path: Path, document: Document) -> DroppedNode | None:
    """The node that suits a path, or ``None``."""
    if path.is_dir():
        model = _model_in(path)
        return DroppedNode("base_model", {"model": _model(model, document)}) if model else None
    suffix = path.suffix.lower()
    if suffix in DATA_SUFFIXES:
        return DroppedNode("dataset", {"source": _written(path, document)})
    if suffix == ".gguf":
        return DroppedNode("base_model", {"model": _model(path, document)})
    if suffix == ".safetensors" and (path.parent / "config.json").is_file():
        return DroppedNode("base_model", {"model": _model(path.parent, document)})
    return None


def _model_in(folder: Path) -> Path | None:
    """The model in a folder: the folder itself, or its only GGUF file."""
    if (folder / "config.json").is_file():
        return folder
    files = sorted(folder.glob("*.gguf"))
    return files[0] if len(files) == 1 else None


def _model(path: Path, document: Document) -> str:
    """As ``_written``, but never to be taken for a hub id such as ``owner/name``."""
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
    """The nodes to add, and the paths that someone else must handle."""
    nodes: list[DroppedNode] = []
    others: list[Path] = []
    for path in paths:
        node = node_for(path, document)
        if node is None:
            others.append(path)
        else:
            nodes.append(node)
    return nodes, others
