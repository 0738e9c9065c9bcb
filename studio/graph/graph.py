"""The Graph: a frozen value of nodes and wires.

Edits are functions Graph -> Graph (``studio.graph.edits``); nothing is changed in place, so undo is
a list of graphs. Settings are plain JSON data here: an unknown node type or setting is preserved,
and only ``problems`` validates it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

Position = tuple[float, float]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Node:
    """One step on the canvas.

    ``settings`` holds only what differs from the defaults. ``title`` is empty unless the user
    renamed the node. ``position`` is the top-left corner in scene pixels. ``extra`` keeps unknown
    keys of the project file.
    """

    id: str
    type: str
    settings: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    title: str = ""
    position: Position = (0.0, 0.0)
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, order=True)
class Wire:
    """A connection from an output port to an input port; ports by name, never by position."""

    source: str
    source_port: str
    target: str
    target_port: str

    @property
    def start(self) -> str:
        """``node.port`` of the output."""
        return f"{self.source}.{self.source_port}"

    @property
    def end(self) -> str:
        """``node.port`` of the input."""
        return f"{self.target}.{self.target_port}"


@dataclass(frozen=True)
class Graph:
    """Nodes and wires under a name. Order of nodes is drawing order; it has no other meaning."""

    name: str = "Untitled"
    nodes: tuple[Node, ...] = ()
    wires: tuple[Wire, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    def node(self, node_id: str) -> Node:
        """The node with this id; raises ``KeyError``."""
        return self._by_id[node_id]

    def has(self, node_id: str) -> bool:
        """Whether a node with this id exists."""
        return node_id in self._by_id

    def ids(self) -> tuple[str, ...]:
        """All node ids in drawing order."""
        return tuple(n.id for n in self.nodes)

    def wire_into(self, node_id: str, port: str) -> Wire | None:
        """The wire that ends at this input, if any (an input takes one wire)."""
        return next((w for w in self.wires_into(node_id) if w.target_port == port), None)

    def wires_into(self, node_id: str) -> Sequence[Wire]:
        """The wires that end at this node, in their order."""
        return self._into.get(node_id, ())

    def wires_from(self, node_id: str) -> Sequence[Wire]:
        """The wires that begin at this node, in their order."""
        return self._from.get(node_id, ())

    def downstream(self, node_id: str) -> frozenset[str]:
        """Ids that can be reached along wires from this node, itself included."""
        seen = {node_id}
        queue = [node_id]
        while queue:
            for wire in self.wires_from(queue.pop()):
                if wire.target not in seen:
                    seen.add(wire.target)
                    queue.append(wire.target)
        return frozenset(seen)

    def upstream(self, node_id: str) -> frozenset[str]:
        """Ids from which this node can be reached, itself included."""
        seen = {node_id}
        queue = [node_id]
        while queue:
            for wire in self.wires_into(queue.pop()):
                if wire.source not in seen:
                    seen.add(wire.source)
                    queue.append(wire.source)
        return frozenset(seen)

    # A graph never changes, and a check of all nodes asks for each of them many times.

    @cached_property
    def _by_id(self) -> Mapping[str, Node]:
        return {n.id: n for n in reversed(self.nodes)}  # of several with one id the first

    @cached_property
    def _into(self) -> Mapping[str, Sequence[Wire]]:
        return _grouped((w.target, w) for w in self.wires)

    @cached_property
    def _from(self) -> Mapping[str, Sequence[Wire]]:
        return _grouped((w.source, w) for w in self.wires)


def _grouped(wires: Iterable[tuple[str, Wire]]) -> Mapping[str, Sequence[Wire]]:
    found: dict[str, list[Wire]] = {}
    for node_id, wire in wires:
        found.setdefault(node_id, []).append(wire)
    return found


class CycleError(ValueError):
    """The wires form a cycle; ``nodes`` are the ids on it or behind it."""

    def __init__(self, nodes: tuple[str, ...]) -> None:
        super().__init__("cycle: " + ", ".join(nodes))
        self.nodes = nodes


def topological_order(graph: Graph) -> tuple[str, ...]:
    """Node ids such that every wire points forward (Kahn); stable in the order of the nodes."""
    known = set(graph.ids())
    waiting = {n: {w.source for w in graph.wires_into(n) if w.source in known} for n in graph.ids()}
    order: list[str] = []
    while waiting:
        ready = [n for n, needs in waiting.items() if not needs]
        if not ready:
            raise CycleError(tuple(waiting))
        for n in ready:
            del waiting[n]
        for needs in waiting.values():
            needs.difference_update(ready)
        order += ready
    return tuple(order)
