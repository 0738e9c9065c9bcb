"""The ports at which a dragged wire may end, for all ports at once.

``studio.graph.wires.check_wire`` decides for a single wire; this file does the same for all ports
in one pass, so that they can light up while the mouse moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from studio.graph import edits
from studio.graph.graph import Graph, Wire
from studio.graph.node_type import NodeType
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.graph.wires import Refusal, check_wire
from ui.canvas.content import Side


@dataclass(frozen=True)
class End:
    """One end of a wire: a port of a node."""

    node: str
    side: Side
    port: str


def wire_between(first: End, second: End) -> Wire | None:
    """The wire from one port to the other; ``None`` for two inputs or two outputs."""
    if first.side == second.side:
        return None
    out, into = (first, second) if first.side == "output" else (second, first)
    return Wire(out.node, out.port, into.node, into.port)


def refusal(graph: Graph, registry: Registry, fixed: End, other: End) -> str:
    """Why a wire from ``fixed`` may not end at ``other``, in one sentence; empty if it may."""
    wire = wire_between(fixed, other)
    if wire is None:
        return f"A wire connects an output to an input; both of these are {fixed.side}s."
    found: Refusal | None = check_wire(graph, registry, wire, replacing=True)
    return found.sentence if found else ""


def acceptable(graph: Graph, registry: Registry, fixed: End) -> dict[str, frozenset[End]]:
    """Every port at which a wire from ``fixed`` may end, by node id."""
    side: Side = "input" if fixed.side == "output" else "output"
    closed = graph.downstream(fixed.node) if fixed.side == "input" else graph.upstream(fixed.node)
    start = registry.node_type(graph.node(fixed.node).type)
    found: dict[str, frozenset[End]] = {}
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        if node.id in closed or node_type is None:
            continue
        names = matching_ports(start, fixed, node_type)
        ends = frozenset(End(node.id, side, name) for name in names)
        taken = {w for e in ends if (w := wire_between(fixed, e)) in graph.wires}
        found[node.id] = frozenset(e for e in ends if wire_between(fixed, e) not in taken)
    return {node_id: ends for node_id, ends in found.items() if ends}


def matching_ports(
    start: NodeType[Settings] | None, fixed: End, other: NodeType[Settings]
) -> list[str]:
    """Ports of a node type whose types suit a wire from ``fixed``; any if ``start`` is unknown."""
    if fixed.side == "output":
        out = start.output(fixed.port) if start else None
        return [p.name for p in other.inputs if out is None or p.accepts(out.type)]
    into = start.input(fixed.port) if start else None
    return [p.name for p in other.outputs if into is None or into.accepts(p.type)]


def reconnected(graph: Graph, wire: Wire, instead_of: Wire | None = None) -> Graph:
    """The graph with ``wire``, and without the one it was dragged away from."""
    if instead_of is not None:
        graph = edits.disconnect(graph, instead_of)
    return edits.connect(graph, wire)
