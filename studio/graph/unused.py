"""What a graph does not train: nodes whose result no other node uses, and graphs without a training.

Both are allowed, for example while a graph is being made. They are reported, because a run of such
a graph completes and trains nothing. An extension's node without a ``purpose`` may do anything, so it
counts as a use and as a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.errors import Problem
from studio.graph.graph import Graph, Node
from studio.graph.ports import ADAPTED_MODEL, DATASET, MODEL
from studio.graph.registry import Registry
from studio.graph.wires import title_of

_MOST_NAMES = 3
_USERS = {
    DATASET.id: "a Train or Evaluate node",
    MODEL.id: "a LoRA or Train node",
    ADAPTED_MODEL.id: "a Train node",
}
"""Type of an output -> the nodes that make use of it."""


@dataclass(frozen=True)
class Untrained:
    """Sentences about a run that trains nothing: before it, after it, and what to add."""

    before: str
    after: str
    hint: str

    def problem(self) -> Problem:
        """What is reported before a run."""
        return Problem(self.before, None, None, self.hint, "no_training", "info")


def used_nodes(graph: Graph, registry: Registry) -> frozenset[str]:
    """Ids of the nodes that do more than prepare, and of all nodes whose results reach one of them."""
    sources: dict[str, list[str]] = {}
    for wire in graph.wires:
        sources.setdefault(wire.target, []).append(wire.source)
    queue = [n.id for n in graph.nodes if _purpose(n, registry) != "prepare"]
    seen = set(queue)
    while queue:
        before = [s for s in sources.get(queue.pop(), ()) if s not in seen]
        seen.update(before)
        queue += before
    return frozenset(seen)


def unused_node(graph: Graph, node: Node, registry: Registry) -> Problem:
    """The warning for a node that is not among the ``used_nodes``."""
    last = end_of_chain(graph, node)
    node_type = registry.node_type(last.type)
    types = [port.type.id for port in node_type.outputs] if node_type else []
    users = next((_USERS[t] for t in types if t in _USERS), "a node that uses it")
    title = title_of(node, registry)
    hint = f"Connect it to {users}, or delete it."
    if last is not node:
        hint = f"Connect “{title_of(last, registry)}” to {users}."
    return Problem(
        f"{title}: not used by any training.", node.id, None, hint, "unused_node", "warning"
    )


def without_training(graph: Graph, registry: Registry) -> Untrained | None:
    """What to say about a run of this graph if it trains nothing; ``None`` if it trains, or may."""
    purposes = {_purpose(n, registry) for n in graph.nodes}
    if not purposes or not purposes <= {"prepare", "result"}:
        return None
    titles = _listed([f"“{title_of(n, registry)}”" for n in graph.nodes])
    does, done = ("prepares", "Prepared") if purposes == {"prepare"} else ("executes", "Executed")
    return Untrained(
        f"This project has no Train node: a run only {does} {titles} and trains nothing.",
        f"{done}: {titles}. Nothing was trained.",
        _what_to_add(graph, registry),
    )


def _purpose(node: Node, registry: Registry) -> str:
    node_type = registry.node_type(node.type)
    return node_type.purpose if node_type else ""


def end_of_chain(graph: Graph, node: Node) -> Node:
    """The last node that a result reaches; of several the first."""
    seen = {node.id}
    last = node
    while True:
        targets = (w.target for w in graph.wires if w.source == last.id and graph.has(w.target))
        target = next(targets, None)
        if target is None:
            return last
        if target in seen:  # a cycle, which is reported itself
            return node
        seen.add(target)
        last = graph.node(target)


def _what_to_add(graph: Graph, registry: Registry) -> str:
    first = {n.type: n for n in reversed(graph.nodes)}
    data = "mix" if "mix" in first else "dataset"

    def name(type_id: str) -> str:
        if type_id in first:
            return f"“{title_of(first[type_id], registry)}”"
        node_type = registry.node_type(type_id)
        return node_type.title if node_type else type_id

    new = [name(t) for t in (data, "base_model", "lora", "train") if t not in first]
    pair = f"{name('lora')} and {name(data)}"
    if len(new) == 1:
        add = f"To train, add a {new[0]} node"
        target = "it"
    else:
        add = f"To train, add the nodes {_listed(new)}"
        target = name("train")
    lora = first.get("lora")
    if lora is not None and graph.wire_into(lora.id, "model") is not None:
        return f"{add}, and connect {pair} to {target}."
    return f"{add}, connect {name('base_model')} to {name('lora')}, and {pair} to {target}."


def _listed(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``, ``A, B and 5 more``."""
    if len(names) > _MOST_NAMES:
        kept = _MOST_NAMES - 1
        names = [*names[:kept], f"{len(names) - kept} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
