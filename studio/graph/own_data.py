"""Copies sample data beside a project that is saved.

The starter project and the templates read files that ship with the program. A project of the user must not depend
on them: an update may change or remove them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from studio.errors import StudioError
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.graph.schema import fields_of
from studio.system import busy_files
from studio.system.disk import what_to_do
from studio.system.paths import assets_dir

_NOTICES = ("LICENSE*", "README.md")


def with_own_data(graph: Graph, registry: Registry, project: Path) -> tuple[Graph, Path | None]:
    """The graph with copies of the sample data that it names, and the folder of these copies beside ``project``;
    ``None`` if it names none. The notices of the licences are copied with the data."""
    if project.resolve().is_relative_to(assets_dir()):
        return graph, None
    settings = [
        (node.id, spec.name, value)
        for node in graph.nodes
        if (node_type := registry.node_type(node.type)) is not None
        for spec in fields_of(node_type.settings)
        if spec.meta.widget == "file" and isinstance(value := node.settings.get(spec.name), str)
    ]
    shipped = {
        part: found
        for _, _, value in settings
        for part in map(str.strip, value.split(";"))
        if (found := _shipped(part, project.parent)) is not None
    }
    if not shipped:
        return graph, None
    files = _with_notices(shipped.values())
    folder = _folder_for(project, files)
    _copy(files, folder)
    for node, name, value in settings:
        parts = [part.strip() for part in value.split(";")]
        own = [f"{folder.name}/{shipped[p].name}" if p in shipped else p for p in parts]
        if own != parts:
            graph = set_setting(graph, node, name, "; ".join(own))
    return graph, folder


def _shipped(part: str, folder: Path) -> Path | None:
    """The file of the program that a part of a setting names, or ``None``."""
    try:
        path = (folder / part).resolve()
        return path if path.is_relative_to(assets_dir()) and path.is_file() else None
    except (OSError, ValueError):  # too long for a path
        return None


def _with_notices(paths: Iterable[Path]) -> dict[str, Path]:
    """The files by name, with the licences beside them."""
    files = {path.name: path for path in paths}
    for folder in {path.parent for path in files.values()}:
        files |= {path.name: path for pattern in _NOTICES for path in folder.glob(pattern)}
    return files


def _folder_for(project: Path, files: Mapping[str, Path]) -> Path:
    """A folder beside the project in which no other file has one of the names."""
    number = 1
    while True:
        folder = project.with_name(f"{project.stem}-data" + (f"-{number}" if number > 1 else ""))
        if not any(_differs(source, folder / name) for name, source in files.items()):
            return folder
        number += 1


def _differs(source: Path, target: Path) -> bool:
    """Whether something else has the name of the copy."""
    if not os.path.lexists(target):
        return target.parent.exists() and not target.parent.is_dir()
    return not target.is_file() or target.read_bytes() != source.read_bytes()


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
        for name, source in files.items():
            if not (folder / name).exists():
                partial = folder / f".{name}.part"  # an interrupted copy has no valid name
                shutil.copyfile(source, partial)
                busy_files.replace(partial, folder / name)
    except OSError as error:
        raise StudioError(
            f"the sample data could not be copied to {folder}: {error.strerror or error}.",
            title="The project was not saved",
            hint=f"{what_to_do(error)} Or save it in another folder.".strip(),
            code="copy_failed",
            file=str(folder),
        ) from error
