"""What another data file is for in a project that has data: it replaces a file, joins a mix, or is evaluated.

Functions from graph to graph, each one step to undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.graph import edits
from studio.graph.graph import Graph, Node, Position, Wire
from studio.node_settings.mix import PORTS

_BELOW: Position = (0, 190)
_RIGHT: Position = (280, 0)
_CARD: Position = (220, 150)


def training_data(graph: Graph) -> tuple[str, ...]:
    """The Dataset nodes that trainings use; all that are not evaluated, if there is no training."""
    trains = [n.id for n in graph.nodes if n.type == "train"]
    wires = [w for t in trains if (w := graph.wire_into(t, "dataset")) is not None]
    before = {n for w in wires for n in graph.upstream(w.source)}
    found = tuple(n.id for n in graph.nodes if n.type == "dataset" and n.id in before)
    evaluated = {w.source for w in graph.wires if graph.node(w.target).type == "evaluate"}
    return found or tuple(
        n.id for n in graph.nodes if n.type == "dataset" and n.id not in evaluated
    )


def train_without_data(graph: Graph) -> str:
    """The only Train node to which no data is connected; empty if there is none, or several."""
    found = [
        n.id for n in graph.nodes if n.type == "train" and graph.wire_into(n.id, "dataset") is None
    ]
    return found[0] if len(found) == 1 else ""


def mixed_in(graph: Graph, source: str) -> tuple[Graph, str, str] | None:
    """The graph in which the training data is mixed with another file, the new Dataset node and the Mix node; ``None``
    without training data."""
    data = training_data(graph)
    if not data:
        return None
    last = _end_of_data(graph, data[-1])
    beside = graph.node(data[-1]).position
    graph, new = _with_dataset(graph, {"source": source}, _moved(beside, _BELOW))
    free = [p for p in PORTS if graph.wire_into(last, p) is None]
    if graph.node(last).type == "mix" and free:
        return edits.connect(graph, Wire(new, "dataset", last, free[0])), new, last
    mix = edits.unique_id(graph, "mix")
    place = _free(graph, _moved(graph.node(last).position, _RIGHT))
    graph = edits.add_node(graph, Node(mix, "mix", {}, "", place))
    for wire in graph.wires:
        if wire.source == last and graph.node(wire.target).type == "train":
            graph = edits.connect(graph, Wire(mix, "dataset", wire.target, wire.target_port))
    graph = edits.connect(graph, Wire(last, "dataset", mix, "a"))
    return edits.connect(graph, Wire(new, "dataset", mix, "b")), new, mix


def tested(graph: Graph, source: str) -> tuple[Graph, str, str] | None:
    """Add a Dataset node for another file, and evaluate the model on its rows.

    Returns the new graph, the ID of the Dataset node and that of the Evaluate node, or ``None`` if the graph has no
    model that could be evaluated.
    """
    evaluates = [n for n in graph.nodes if n.type == "evaluate"]
    model = _result(graph)
    if not evaluates and model is None:
        return None
    settings = {"source": source, "validation_fraction": 0.0}
    if evaluates:
        target = evaluates[0].id
        place = _moved(evaluates[0].position, (-_RIGHT[0], 0.0))
    else:
        assert model is not None
        target = edits.unique_id(graph, "evaluate")
        beside = graph.node(model[0]).position
        place = _moved(beside, _BELOW)
        node = Node(target, "evaluate", {}, "", _free(graph, _moved(place, _RIGHT)))
        graph = edits.add_node(graph, node)
        graph = edits.connect(graph, Wire(*model, target, "model"))
    graph, new = _with_dataset(graph, settings, place, "Test rows")
    return edits.connect(graph, Wire(new, "dataset", target, "dataset")), new, target


def _result(graph: Graph) -> tuple[str, str] | None:
    """The merged model, else the adapter, as node and port."""
    for kind, port in (("merge", "model"), ("train", "adapter")):
        found = [n.id for n in graph.nodes if n.type == kind]
        if found:
            return found[-1], port
    return None


def _end_of_data(graph: Graph, node: str) -> str:
    """The Mix node at the end of the data, else the Dataset node itself."""
    for wire in graph.wires:
        if wire.source == node and graph.node(wire.target).type == "mix":
            return _end_of_data(graph, wire.target)
    return node


def _with_dataset(
    graph: Graph, settings: Mapping[str, Any], place: Position, title: str = ""
) -> tuple[Graph, str]:
    new = edits.unique_id(graph, "test" if title else "dataset")
    node = Node(new, "dataset", settings, title, _free(graph, place))
    return edits.add_node(graph, node), new


def _moved(place: Position, by: Position) -> Position:
    return place[0] + by[0], place[1] + by[1]


def _free(graph: Graph, place: Position) -> Position:
    """The place, or the next one below where no node is covered."""
    while any(
        abs(n.position[0] - place[0]) < _CARD[0] and abs(n.position[1] - place[1]) < _CARD[1]
        for n in graph.nodes
    ):
        place = _moved(place, _BELOW)
    return place
