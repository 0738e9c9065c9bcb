"""The graph with an Export node for another program, after what a training has made.

Nothing is trained again when it runs: the steps before the new nodes have not changed, so that their results are
reused. It adds only what is missing, and decides nothing about the training.
"""

from __future__ import annotations

from studio.errors import StudioError
from studio.graph.edits import add_node, connect, unique_id
from studio.graph.graph import Graph, Node, Position, Wire

_RIGHT_PX, _DOWN_PX = 260.0, 170.0
_ADAPTERS = ("adapter_mix", "resize", "train", "load_adapter")
"""Nodes with an adapter, the last in a graph first."""


def export_for(graph: Graph, format_id: str, title: str) -> tuple[Graph, str]:
    """The graph with an Export node of this format for the merged or tuned model, and its id. A Merge node is added
    where there is none. Raises ``StudioError`` for a graph without a training or adapter."""
    found = _export_of(graph, format_id)
    if found is not None:
        return graph, found
    graph, source, port = _model(graph)
    node = Node(
        unique_id(graph, "export"),
        "export",
        {"format": format_id},
        title=title,
        position=_free(graph, source),
    )
    graph = add_node(graph, node)
    return connect(graph, Wire(source, port, node.id, "model")), node.id


def _export_of(graph: Graph, format_id: str) -> str | None:
    """An Export node of this format that has an input."""
    wired = {w.target for w in graph.wires if w.target_port == "model"}
    return next(
        (
            n.id
            for n in graph.nodes
            if n.type == "export" and n.settings.get("format") == format_id and n.id in wired
        ),
        None,
    )


def _model(graph: Graph) -> tuple[Graph, str, str]:
    """The node and port of the model that is exported; a Merge node is added for an adapter."""
    wired = {(w.target, w.target_port): w for w in graph.wires}
    merges = [n for n in graph.nodes if n.type == "merge" and (n.id, "adapter") in wired]
    if merges:
        return graph, merges[-1].id, "model"
    for kind in _ADAPTERS:
        for node in reversed(graph.nodes):
            if node.type != kind:
                continue
            if kind == "train" and _is_full(graph, wired.get((node.id, "model"))):
                return graph, node.id, "model"
            merge = Node(unique_id(graph, "merge"), "merge", position=_free(graph, node.id))
            graph = connect(add_node(graph, merge), Wire(node.id, "adapter", merge.id, "adapter"))
            return graph, merge.id, "model"
    raise StudioError(
        "the project has no training, and no adapter to export.",
        hint="Add a Train node, or a Load Adapter node.",
        code="nothing_to_export",
    )


def _is_full(graph: Graph, wire: Wire | None) -> bool:
    """Whether a training changes the model itself, because its input has no adapter."""
    return wire is not None and graph.node(wire.source).type in ("base_model", "merge")


def _free(graph: Graph, after: str) -> Position:
    """A place to the right of a node where no other lies."""
    x, y = graph.node(after).position
    x += _RIGHT_PX
    taken = [n.position for n in graph.nodes]
    while any(abs(x - a) < _RIGHT_PX * 0.8 and abs(y - b) < _DOWN_PX * 0.8 for a, b in taken):
        y += _DOWN_PX
    return x, y
