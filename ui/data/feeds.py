"""Which Dataset feeds which Train node, read from the wires. Nothing is opened here."""

from __future__ import annotations

from studio.graph.graph import Graph


def train_fed_by(graph: Graph, node: str) -> str | None:
    """The first Train node that learns from the rows of this Dataset node, through mixes too."""
    for train in (n for n in graph.nodes if n.type == "train"):
        wire = graph.wire_into(train.id, "dataset")
        if wire is not None and node in {wire.source, *graph.upstream(wire.source)}:
            return train.id
    return None


def dataset_of(graph: Graph, train: str) -> str | None:
    """The first Dataset node whose rows a Train node learns from."""
    wire = graph.wire_into(train, "dataset")
    if wire is None:
        return None
    before = {wire.source, *graph.upstream(wire.source)}
    found = [n.id for n in graph.nodes if n.id in before and n.type == "dataset"]
    return wire.source if wire.source in found else next(iter(found), None)
