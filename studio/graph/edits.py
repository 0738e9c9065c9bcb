"""Edits: functions Graph -> Graph. They never change their argument and never validate settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from studio.graph.graph import Graph, Node, Position, Wire


def unique_id(graph: Graph, stem: str) -> str:
    """A node id that is free: ``stem``, ``stem2``, ``stem3`` ..."""
    base = re.sub(r"\d+$", "", stem) or "node"
    taken = set(graph.ids())
    if base not in taken:
        return base
    number = 2
    while f"{base}{number}" in taken:
        number += 1
    return f"{base}{number}"


def add_node(graph: Graph, node: Node) -> Graph:
    """The graph with one more node; its id must be free."""
    if graph.has(node.id):
        raise ValueError(f"the id {node.id!r} is taken")
    return replace(graph, nodes=(*graph.nodes, node))


def remove(graph: Graph, node_ids: Iterable[str] = (), wires: Iterable[Wire] = ()) -> Graph:
    """The graph without these nodes, the wires that touch them, and these wires."""
    gone = set(node_ids)
    dropped = set(wires)
    return replace(
        graph,
        nodes=tuple(n for n in graph.nodes if n.id not in gone),
        wires=tuple(
            w
            for w in graph.wires
            if w not in dropped and w.source not in gone and w.target not in gone
        ),
    )


def connect(graph: Graph, wire: Wire) -> Graph:
    """The graph with this wire; a wire that was in the same input is replaced."""
    kept = tuple(
        w for w in graph.wires if (w.target, w.target_port) != (wire.target, wire.target_port)
    )
    return replace(graph, wires=(*kept, wire))


def disconnect(graph: Graph, wire: Wire) -> Graph:
    """The graph without this wire."""
    return remove(graph, wires=(wire,))


def move(graph: Graph, positions: Mapping[str, Position]) -> Graph:
    """The graph with nodes at new positions (top-left corner, scene pixels)."""
    return _map(graph, {k: {"position": (float(x), float(y))} for k, (x, y) in positions.items()})


def retitle(graph: Graph, node_id: str, title: str) -> Graph:
    """The graph with a node under another title; an empty title means the title of the type."""
    return _map(graph, {node_id: {"title": title.strip()}})


def rename(graph: Graph, name: str) -> Graph:
    """The graph under another name."""
    return replace(graph, name=name.strip() or "Untitled")


def set_setting(graph: Graph, node_id: str, path: str, value: Any) -> Graph:
    """The graph with one setting changed; ``path`` may be dotted (``method_settings.rank``)."""
    node = graph.node(node_id)
    head, _, rest = path.partition(".")
    settings = dict(node.settings)
    if rest:
        inner = _inner(settings, head)
        inner[rest] = value
        settings[head] = inner
    else:
        settings[head] = value
    return _map(graph, {node_id: {"settings": settings}})


def reset_setting(graph: Graph, node_id: str, path: str) -> Graph:
    """The graph with one setting reset to its default, which removes it."""
    node = graph.node(node_id)
    head, _, rest = path.partition(".")
    settings = dict(node.settings)
    if rest:
        inner = {k: v for k, v in _inner(settings, head).items() if k != rest}
        settings[head] = inner
        if not inner:
            del settings[head]
    else:
        settings.pop(head, None)
    return _map(graph, {node_id: {"settings": settings}})


def _inner(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of a variant; invalid data of a damaged file is replaced."""
    found = settings.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def subgraph(graph: Graph, node_ids: Iterable[str]) -> Graph:
    """These nodes and the wires between them, as copied to the clipboard."""
    wanted = set(node_ids)
    return Graph(
        graph.name,
        tuple(n for n in graph.nodes if n.id in wanted),
        tuple(w for w in graph.wires if w.source in wanted and w.target in wanted),
    )


def paste(graph: Graph, piece: Graph, offset: Position) -> tuple[Graph, tuple[str, ...]]:
    """The graph with a copy of ``piece``, moved by ``offset`` under new ids, and those ids."""
    new_ids: dict[str, str] = {}
    for node in piece.nodes:
        new_ids[node.id] = unique_id(graph, node.id)
        x, y = node.position
        copy = replace(node, id=new_ids[node.id], position=(x + offset[0], y + offset[1]))
        graph = add_node(graph, copy)
    wires = tuple(
        replace(w, source=new_ids[w.source], target=new_ids[w.target]) for w in piece.wires
    )
    return replace(graph, wires=graph.wires + wires), tuple(new_ids.values())


def _map(graph: Graph, changes: Mapping[str, Mapping[str, Any]]) -> Graph:
    for node_id in changes:
        graph.node(node_id)
    return replace(
        graph,
        nodes=tuple(replace(n, **changes[n.id]) if n.id in changes else n for n in graph.nodes),
    )
