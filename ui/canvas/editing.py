"""The edits of the canvas to the document, each with a label for Undo.

Why apart from the view: the same edits come from the mouse, the keyboard, menus and drops, and can
be tested without any of them. It uses no items and no events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from studio.errors import StudioError
from studio.graph import edits, project
from studio.graph.document import Document
from studio.graph.graph import Graph, Node, Position, Wire
from studio.graph.registry import Registry
from studio.graph.wires import title_of
from ui.canvas import layout
from ui.canvas.content import Side
from ui.canvas.wire_rules import End, matching_ports, reconnected, wire_between

STEP = 20.0


class Editor:
    """Edits of one document."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry

    @property
    def graph(self) -> Graph:
        """The current graph."""
        return self.document.graph

    def title(self, node_id: str) -> str:
        """A node's title."""
        return title_of(self.graph.node(node_id), self.registry)

    def named(self, node_ids: Iterable[str]) -> str:
        """``Train`` or ``3 nodes``, for labels."""
        ids = list(node_ids)
        return self.title(ids[0]) if len(ids) == 1 else f"{len(ids)} nodes"

    def add(
        self,
        type_id: str,
        position: Position,
        settings: Mapping[str, Any] | None = None,
        wired_to: End | None = None,
    ) -> str:
        """Add a node, connected to ``wired_to`` if given, as one step; returns its id."""
        node_type = self.registry.nodes[type_id]
        node = Node(
            edits.unique_id(self.graph, type_id),
            type_id,
            dict(settings or {}),
            "",
            free_spot(self.graph, position),
        )
        graph = edits.add_node(self.graph, node)
        if wired_to is not None:
            start = self.registry.node_type(self.graph.node(wired_to.node).type)
            ports = matching_ports(start, wired_to, node_type)
            side: Side = "input" if wired_to.side == "output" else "output"
            wire = wire_between(wired_to, End(node.id, side, ports[0])) if ports else None
            graph = edits.connect(graph, wire) if wire else graph
        self.document.edit(graph, f"Add {node_type.title}")
        return node.id

    def move(self, positions: Mapping[str, Position], merge_key: str | None = None) -> None:
        """Put nodes at new positions."""
        changed = {i: p for i, p in positions.items() if self.graph.node(i).position != p}
        if changed:
            label = f"Move {self.named(positions)}"
            self.document.edit(edits.move(self.graph, changed), label, merge_key)

    def nudge(self, node_ids: Iterable[str], dx: float, dy: float) -> None:
        """Shift nodes; consecutive nudges of the same nodes are one step."""
        ids = tuple(node_ids)
        spots = {i: self.graph.node(i).position for i in ids}
        shifted = {i: (x + dx, y + dy) for i, (x, y) in spots.items()}
        self.move(shifted, merge_key="nudge " + " ".join(sorted(ids)))

    def delete(
        self, node_ids: Iterable[str], wires: Iterable[Wire] = (), verb: str = "Delete"
    ) -> None:
        """Remove nodes with their wires, and single wires; ``verb`` names the step."""
        ids, single = tuple(node_ids), tuple(wires)
        what = self.named(ids) if ids else ("wire" if len(single) == 1 else f"{len(single)} wires")
        self.document.edit(edits.remove(self.graph, ids, single), f"{verb} {what}")

    def connect(self, wire: Wire, instead_of: Wire | None = None) -> Wire | None:
        """Add a wire; returns the wire that it replaced at its input, if any."""
        pushed = self.graph.wire_into(wire.target, wire.target_port)
        label = "Move wire" if instead_of else "Connect"
        target = self.title(wire.target)
        self.document.edit(reconnected(self.graph, wire, instead_of), f"{label} to {target}")
        return None if pushed == instead_of else pushed

    def retitle(self, node_id: str, title: str) -> None:
        """Give a node another title; its type's own title means none."""
        node_type = self.registry.node_type(self.graph.node(node_id).type)
        if node_type is not None and title.strip() == node_type.title:
            title = ""
        self.document.edit(
            edits.retitle(self.graph, node_id, title), f"Rename {self.title(node_id)}"
        )

    def copied(self, node_ids: Iterable[str]) -> str:
        """Nodes and the wires among them as project-file data."""
        return json.dumps(project.to_data(edits.subgraph(self.graph, node_ids)), indent=1)

    def paste(self, piece: Graph, corner: Position) -> tuple[str, ...]:
        """Paste a subgraph with its top-left corner at ``corner``; returns the new IDs."""
        left = min(n.position[0] for n in piece.nodes)
        top = min(n.position[1] for n in piece.nodes)
        first = min(piece.nodes, key=lambda n: (n.position[1], n.position[0]))
        spot = (corner[0] + first.position[0] - left, corner[1] + first.position[1] - top)
        free = free_spot(self.graph, spot)
        offset = (free[0] - first.position[0], free[1] - first.position[1])
        graph, ids = edits.paste(self.graph, piece, offset)
        what = "node" if len(ids) == 1 else f"{len(ids)} nodes"
        self.document.edit(graph, f"Paste {what}")
        return ids

    def duplicate(self, node_ids: Iterable[str]) -> tuple[str, ...]:
        """Copy nodes beside themselves, with the wires among them."""
        ids = tuple(node_ids)
        piece = edits.subgraph(self.graph, ids)
        graph, new = edits.paste(self.graph, piece, (2 * STEP, 2 * STEP))
        self.document.edit(graph, f"Duplicate {self.named(ids)}")
        return new


def piece_in(text: str) -> Graph | None:
    """The graph in the text of the clipboard, or ``None`` if it contains something else."""
    if project.FORMAT not in text:
        return None
    try:
        piece = project.from_data(json.loads(text), "the clipboard")
    except (StudioError, ValueError):
        return None
    return replace(piece, extra={}) if piece.nodes else None


def free_spot(graph: Graph, position: Position) -> Position:
    """``position`` on the grid, moved until no other node is at exactly that place."""
    taken = {node.position for node in graph.nodes}
    x, y = layout.snap(position[0]), layout.snap(position[1])
    while (x, y) in taken:
        x, y = x + STEP, y + STEP
    return x, y
