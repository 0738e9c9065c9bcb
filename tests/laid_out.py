"""How the nodes of a project that comes with the program lie."""

from __future__ import annotations

from studio.graph.graph import Graph

NODE_WIDTH_PX = 220


def assert_laid_out(graph: Graph, node_height_px: int) -> None:
    """No node lies over another, and every wire runs to the right."""
    places = [n.position for n in graph.nodes]
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[i + 1 :]:
            assert abs(x - other_x) > NODE_WIDTH_PX or abs(y - other_y) > node_height_px
    for wire in graph.wires:
        assert graph.node(wire.source).position[0] < graph.node(wire.target).position[0]
