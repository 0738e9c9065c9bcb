"""Nodes around an adapter from elsewhere: a training that goes on with it, and its base in place of it.

Functions from graph to graph, each one step to undo.
"""

from __future__ import annotations

from pathlib import Path

from studio.graph import edits
from studio.graph.graph import Graph, Node, Position, Wire
from studio.model.adapter_files import CONFIG
from studio.model.folder_check import gguf_faults
from studio.model.folder_files import json_or_empty
from studio.model.models import classify
from studio.recipe.more_data import training_data

_RIGHT, _BELOW = 280.0, 190.0


def is_adapter(path: Path) -> bool:
    """Whether a path is a folder with an adapter, or a GGUF file with one."""
    if path.is_dir():
        return (path / CONFIG).is_file() and not (path / "config.json").is_file()
    if path.suffix.lower() != ".gguf" or not path.is_file():
        return False
    return any(fault.code == "adapter_folder" for fault in gguf_faults(path))


def base_of(path: Path) -> str:
    """The base model that the adapter names, where it can be used here: a folder, or a Hub ID; else empty."""
    config = json_or_empty(path, CONFIG) if path.is_dir() else {}
    named = config.get("base_model_name_or_path", config.get("model"))  # PEFT, mlx-lm
    if not isinstance(named, str) or not named:
        return ""
    folder = path / Path(named).expanduser()
    if (folder / "config.json").is_file():
        return str(folder)
    plain = classify(named) == "hub" and named.count("/") == 1 and not named.startswith(("/", "."))
    return named if plain else ""


def loaded_instead(graph: Graph, node: str, project_dir: Path) -> tuple[Graph, str] | None:
    """The graph in which a Base model node that names an adapter names its base, and a Load Adapter node the adapter;
    and the id of that node. ``None`` if it names no adapter."""
    named = str(graph.node(node).settings.get("model", ""))
    if not named or not is_adapter(project_dir / Path(named).expanduser()):
        return None
    base = base_of(project_dir / Path(named).expanduser())
    graph = edits.set_setting(graph, node, "model", base)
    graph, load = _added(
        graph, "load_adapter", graph.node(node).position, (0.0, _BELOW), adapter=named
    )
    return edits.connect(graph, Wire(node, "model", load, "model")), load


def trained_further(graph: Graph, load: str, project_dir: Path) -> tuple[Graph, str]:
    """The graph with a training that goes on with the adapter of a Load Adapter node, and its Train node. The base
    model, the data and an Export node are added where there are none."""
    here = graph.node(load).position
    if graph.wire_into(load, "model") is None:
        bases = [n.id for n in graph.nodes if n.type == "base_model"]
        if len(bases) != 1:
            named = str(graph.node(load).settings.get("adapter", ""))
            base = base_of(project_dir / Path(named).expanduser())
            graph, new = _added(graph, "base_model", here, (-_RIGHT, 0.0), model=base)
            bases = [new]
        graph = edits.connect(graph, Wire(bases[0], "model", load, "model"))
    data = training_data(graph)
    graph, train = _added(graph, "train", here, (_RIGHT, 0.0))
    if len(data) != 1:
        graph, new = _added(graph, "dataset", here, (0.0, -_BELOW))
        data = (new,)
    graph = edits.connect(graph, Wire(data[0], "dataset", train, "dataset"))
    graph = edits.connect(graph, Wire(load, "adapter", train, "model"))
    graph, export = _added(graph, "export", here, (2 * _RIGHT, 0.0))
    return edits.connect(graph, Wire(train, "adapter", export, "model")), train


def _added(
    graph: Graph, kind: str, beside: Position, by: Position, **settings: str
) -> tuple[Graph, str]:
    """A node of this type, at the first free place from there on downwards."""
    x, y = beside[0] + by[0], beside[1] + by[1]
    while any(abs(n.position[0] - x) < 220 and abs(n.position[1] - y) < 150 for n in graph.nodes):
        y += _BELOW
    new = edits.unique_id(graph, kind)
    return edits.add_node(graph, Node(new, kind, settings, "", (x, y))), new
