"""Random graphs for property tests: valid names, any JSON settings, wires that point forward."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from studio.graph.graph import Graph, Node, Wire

NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,6}[a-z0-9]", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=3,
)
POSITIONS = st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)).map(
    lambda p: (float(p[0]), float(p[1]))
)
TITLES = TEXTS.map(str.strip)
KNOWN_NODE_KEYS = {"id", "type", "title", "position", "settings"}
KNOWN_KEYS = {"format", "version", "name", "nodes", "wires"}


def extras(known: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Keys that a newer program may have added."""
    return st.dictionaries(NAMES.filter(lambda n: n not in known), JSON, max_size=1)


NODES = st.builds(
    Node,
    NAMES,
    NAMES,
    st.dictionaries(TEXTS, JSON, max_size=3),
    TITLES,
    POSITIONS,
    extras(KNOWN_NODE_KEYS),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph without cycles; node ids are unique and each input has at most one wire."""
    nodes = draw(st.lists(NODES, max_size=5, unique_by=lambda n: n.id))
    wires: dict[tuple[str, str], Wire] = {}
    if len(nodes) > 1:
        for _ in range(draw(st.integers(0, 8))):
            target = draw(st.integers(1, len(nodes) - 1))
            source = draw(st.integers(0, target - 1))
            ports = draw(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")))
            wire = Wire(nodes[source].id, ports[0], nodes[target].id, ports[1])
            wires[(wire.target, wire.target_port)] = wire
    name = draw(TITLES.filter(bool))
    return Graph(name, tuple(nodes), tuple(wires.values()), draw(extras(KNOWN_KEYS)))
