"""The project file: a ``.studio`` file is UTF-8 JSON, data only.

A newer version is refused and left untouched; an older one is upgraded step by step; unknown node
types, settings and keys are kept. Saving is atomic; the autosave journal lies beside the file and
never over it.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.graph import Graph, Node, Wire
from studio.system import busy_files
from studio.system.atomic import write_atomic
from studio.system.disk import what_to_do
from studio.system.stored_json import parse, read_regular

FORMAT = "lora-studio"
VERSION = 3
SUFFIX = ".studio"


def is_project(path: str | Path) -> bool:
    """Whether a path is named like a project; Windows also has it in upper case."""
    return str(path).lower().endswith(SUFFIX)


_CHANGED_DEFAULTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {"dataset": {"documents": "paragraph"}, "train": {"long_text": "cut"}},
    2: {"train": {"batching": "padded"}},
}
"""The defaults that changed after a version of the file, by node type, as they were until then."""


def with_earlier_defaults(node_type: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a node of version 1. A file states only what differs from the defaults, so a
    default that has changed since must be stated for the node to keep its meaning."""
    found = dict(settings)
    for version in _CHANGED_DEFAULTS:
        found = _with_defaults_of(version, node_type, found)
    return found


def _with_defaults_of(version: int, node_type: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**_CHANGED_DEFAULTS[version].get(node_type, {}), **settings}


def _upgrade_of(version: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Lets nodes of this version state the defaults that changed after it."""

    def upgrade(data: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                **n,
                "settings": _with_defaults_of(version, str(n.get("type")), n.get("settings") or {}),
            }
            for n in data.get("nodes", [])
        ]
        return {**data, "nodes": nodes}

    return upgrade


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    version: _upgrade_of(version) for version in _CHANGED_DEFAULTS
}
"""Version n -> function from a version n file's data to version n + 1."""


def to_data(graph: Graph) -> dict[str, Any]:
    """The graph as the project file's JSON data."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": graph.name,
        **graph.extra,
        "nodes": [_node_data(n) for n in graph.nodes],
        "wires": [{"from": w.start, "to": w.end} for w in graph.wires],
    }


def _node_data(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {"id": node.id, "type": node.type}
    if node.title:
        data["title"] = node.title
    data["position"] = [_tidy(v) for v in node.position]
    data["settings"] = dict(node.settings)
    return {**data, **node.extra}


def _tidy(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(value, 2)


def from_data(data: Any, name: str = "project") -> Graph:
    """The graph in JSON data; raises ``StudioError`` that describes what is wrong in file
    ``name``."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise _bad(
            name, "it is not a LoRA Studio project", "Choose a file that was saved by LoRA Studio."
        )
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _bad(name, f"its version is {version!r}, which is not a version number", "")
    if version > VERSION:
        raise StudioError(
            f"{name} was saved by a newer LoRA Studio (file version {version}, this program reads {VERSION}).",
            title="The project is newer than this program",
            hint="Update LoRA Studio to open it. The file was not changed.",
            code="newer_project",
            file=name,
        )
    try:
        for step in range(version, VERSION):
            data = UPGRADES[step](data)
        return _graph(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _bad(
            name,
            f"it contains a damaged node or wire ({error})",
            "Restore it from a copy or from its autosave journal.",
        ) from error


def _graph(data: dict[str, Any]) -> Graph:
    known = {"format", "version", "name", "nodes", "wires"}
    return Graph(
        name=str(data.get("name") or "Untitled"),
        nodes=tuple(_node(n) for n in data.get("nodes", [])),
        wires=tuple(_wire(w) for w in data.get("wires", [])),
        extra={k: v for k, v in data.items() if k not in known},
    )


def _node(data: dict[str, Any]) -> Node:
    x, y = data.get("position") or (0, 0)
    settings = data.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise TypeError(f"the settings of node {data['id']!r} are not an object")
    known = {"id", "type", "title", "position", "settings"}
    return Node(
        str(data["id"]),
        str(data["type"]),
        dict(settings),
        str(data.get("title") or ""),
        (_finite(x), _finite(y)),
        {k: v for k, v in data.items() if k not in known},
    )


def _finite(value: Any) -> float:
    """A coordinate; NaN and infinity become 0."""
    number = float(value)
    return number if math.isfinite(number) else 0.0


def _wire(data: dict[str, Any]) -> Wire:
    ends = []
    for key in ("from", "to"):
        node, dot, port = str(data[key]).rpartition(".")
        if not dot or not node or not port:
            raise ValueError(f"the wire end {data[key]!r} is not NODE.PORT")
        ends += [node, port]
    return Wire(*ends)


def _bad(name: str, what: str, hint: str) -> StudioError:
    return StudioError(
        f"{name} cannot be opened: {what}.",
        title="The project cannot be opened",
        hint=hint,
        code="unreadable_project",
        file=name,
    )


def _damaged(path: Path, what: str) -> StudioError:
    return _bad(str(path), what, "Restore it from a copy or from its autosave journal.")


def load_project(path: Path) -> Graph:
    """The graph in a project file; raises ``StudioError`` naming the file, and the line if known."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise _bad(str(path), "it does not exist", "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(
            str(path),
            f"it cannot be read ({getattr(error, 'strerror', None) or error})",
            what_to_do(error) or "Check the file and its permissions.",
        ) from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        problem = _damaged(path, f"line {error.lineno} is not valid JSON ({error.msg})")
        problem.line = error.lineno
        raise problem from error
    except RecursionError as error:
        raise _damaged(path, "it is nested too deeply") from error
    except ValueError as error:  # an integer with thousands of digits
        raise _damaged(path, f"it is not valid JSON ({error})") from error
    return from_data(data, str(path))


def save_project(path: Path, graph: Graph) -> None:
    """Write the project file: temporary file, fsync, rename; the journal beside it is removed."""
    text = json_text(to_data(graph), indent=2) + "\n"
    try:
        write_atomic(path, text)
    except OSError as error:
        raise StudioError(
            f"{path} could not be saved: {error.strerror or error}.",
            title="The project was not saved",
            hint=f"{what_to_do(error)} Or save it under another name or in another folder.".strip(),
            code="save_failed",
            file=str(path),
        ) from error
    remove_journal(path)


def json_text(data: Any, indent: int | None = None) -> str:
    """Data as JSON for a UTF-8 file. Characters stay readable, except in text that UTF-8 cannot
    encode (lone surrogates, file names in another encoding), which is escaped."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, indent=indent)
    return text


def journal_path(path: Path) -> Path:
    """Where unsaved changes of a project are kept until it is saved."""
    return path.with_name(f".{path.name}.autosave")


def remove_journal(path: Path) -> None:
    """Remove the unsaved changes of a project; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        busy_files.remove(journal_path(path))


def write_journal(path: Path, graph: Graph) -> None:
    """Keep unsaved changes beside the project file."""
    write_atomic(journal_path(path), json_text(to_data(graph)))


def read_journal(path: Path) -> Graph | None:
    """Unsaved changes that were left beside a project by a crash, or ``None``."""
    journal = journal_path(path)
    try:
        return from_data(parse(read_regular(journal)), str(journal))
    except (StudioError, OSError, ValueError):
        return None
