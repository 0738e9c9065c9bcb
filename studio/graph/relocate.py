"""Adapts relative paths when a project moves to another folder.

Settings may contain paths relative to the project's folder, which must stay valid when the project
is saved elsewhere. No file is moved or copied.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.graph.schema import fields_of

PATH_WIDGETS = ("file", "folder", "adapter", "model")


def relocated(graph: Graph, registry: Registry, old_dir: Path, new_dir: Path) -> Graph:
    """The graph whose relative paths, seen from ``new_dir``, lead where they led from ``old_dir``.

    Only paths of things that exist are rewritten: relative where they lie below ``new_dir``, else
    absolute. Names that are not paths (a Hub ID) stay unchanged.
    """
    old_dir, new_dir = old_dir.resolve(), new_dir.resolve()
    if old_dir == new_dir:
        return graph
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        if node_type is None:
            continue
        for spec in fields_of(node_type.settings):
            value = node.settings.get(spec.name)
            if spec.meta.widget in PATH_WIDGETS and isinstance(value, str):
                written = _rewritten(value, old_dir, new_dir)
                if written != value:
                    graph = set_setting(graph, node.id, spec.name, written)
    return graph


def _rewritten(value: str, old_dir: Path, new_dir: Path) -> str:
    """A path, or several with “;” between them, any of them a pattern."""
    if _moves(value, old_dir) or ";" not in value:
        return _one(value, old_dir, new_dir)
    return "; ".join(_one(part.strip(), old_dir, new_dir) for part in value.split(";"))


def _one(value: str, old_dir: Path, new_dir: Path) -> str:
    if _moves(value, old_dir):
        return _seen_from(old_dir / value, new_dir)
    fixed, _, rest = value.rpartition("/")
    if glob.has_magic(value) and not glob.has_magic(fixed) and _moves(fixed or ".", old_dir):
        return f"{_seen_from(old_dir / fixed, new_dir)}/{rest}"
    return value


def _moves(value: Any, old_dir: Path) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        return not Path(value).expanduser().is_absolute() and (old_dir / value).exists()
    except (OSError, RuntimeError):  # too long for a path; ~nobody
        return False


def _seen_from(path: Path, folder: Path) -> str:
    target = Path(os.path.normpath(path))
    return target.relative_to(folder).as_posix() if target.is_relative_to(folder) else str(target)
