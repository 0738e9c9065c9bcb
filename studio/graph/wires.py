"""The check for wires, used while dragging, when loading a file and before a run.

It returns ``None`` for a valid wire, else a ``Refusal`` with a reason and a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import NodeType
from studio.graph.ports import Port
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.shown_text import line

MOST_IN_TITLE = 80

Reason = Literal[
    "missing_node", "missing_port", "same_node", "wrong_type", "duplicate", "cycle", "input_taken"
]


@dataclass(frozen=True)
class Refusal:
    """Why a wire may not be made."""

    reason: Reason
    sentence: str


def title_of(node: Node, registry: Registry) -> str:
    """The title shown for a node: its own, else its type's, else its type id."""
    if node.title:
        return line(node.title, MOST_IN_TITLE)
    node_type = registry.node_type(node.type)
    return node_type.title if node_type else line(node.type, MOST_IN_TITLE)


def check_wire(
    graph: Graph, registry: Registry, wire: Wire, *, replacing: bool = False
) -> Refusal | None:
    """Whether ``wire`` may be added to ``graph``.

    With ``replacing`` a taken input is no reason: the old wire would be moved away. A wire whose
    node type is not installed is accepted as it is; the missing node is a Problem of its own.
    """
    refusal = _check_ends(graph, registry, wire) or _check_duplicate(wire, graph.wires)
    if refusal is not None:
        return refusal
    source, target = graph.node(wire.source), graph.node(wire.target)
    if wire.source in graph.downstream(wire.target):
        return Refusal(
            "cycle",
            (
                f"This would create a cycle: {title_of(target, registry)} already feeds "
                f"{title_of(source, registry)}."
            ),
        )
    return None if replacing else _check_input(wire, target, graph.wires_into(target.id), registry)


def check_existing_wire(graph: Graph, registry: Registry, wire: Wire) -> Refusal | None:
    """Whether a wire of ``graph`` may be there beside the others; cycles are not looked for."""
    refusal = _check_ends(graph, registry, wire)
    if refusal is not None:
        return refusal
    others = list(graph.wires_into(wire.target))
    others.remove(wire)
    target = graph.node(wire.target)
    return _check_duplicate(wire, others) or _check_input(wire, target, others, registry)


def _check_ends(graph: Graph, registry: Registry, wire: Wire) -> Refusal | None:
    for node_id in (wire.source, wire.target):
        if not graph.has(node_id):
            return Refusal("missing_node", f"There is no node “{node_id}”.")
    return _check_ports(wire, graph.node(wire.source), graph.node(wire.target), registry)


def _check_duplicate(wire: Wire, others: Sequence[Wire]) -> Refusal | None:
    if wire in others:
        return Refusal("duplicate", "These two ports are already connected.")
    return None


def _check_input(
    wire: Wire, target: Node, others: Sequence[Wire], registry: Registry
) -> Refusal | None:
    if all(other.target_port != wire.target_port for other in others):
        return None
    return Refusal(
        "input_taken",
        f"The input {wire.target_port} of {title_of(target, registry)} is already connected.",
    )


def _check_ports(wire: Wire, source: Node, target: Node, registry: Registry) -> Refusal | None:
    if wire.source == wire.target:
        return Refusal("same_node", "A node cannot be connected to itself.")
    out = _port(registry.node_type(source.type), wire.source_port, "output")
    into = _port(registry.node_type(target.type), wire.target_port, "input")
    for port, node, name, side in (
        (out, source, wire.source_port, "output"),
        (into, target, wire.target_port, "input"),
    ):
        if port is None:
            return Refusal("missing_port", f"{title_of(node, registry)} has no {side} “{name}”.")
    if isinstance(out, Port) and isinstance(into, Port) and not into.accepts(out.type):
        wanted = " or ".join(t.title for t in into.types)
        return Refusal(
            "wrong_type",
            (
                f"{title_of(target, registry)} accepts {wanted} here, but this wire carries "
                f"{out.type.title}."
            ),
        )
    return None


def _port(
    node_type: NodeType[Settings] | None, name: str, side: str
) -> Port | Literal["unknown"] | None:
    if node_type is None:
        return "unknown"
    return node_type.output(name) if side == "output" else node_type.input(name)
