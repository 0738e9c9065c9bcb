"""Graph, edits and wires: values that never change, and one door for wires."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.graph import edits
from studio.graph.graph import CycleError, Graph, Node, Wire, topological_order
from studio.graph.wires import check_wire
from tests.studio.graph.strategies import NAMES, POSITIONS, graphs
from tests.studio.runs import toy_runs


def chain(*ids: str) -> Graph:
    wires = tuple(Wire(a, "out", b, "in") for a, b in pairwise(ids))
    return Graph("Chain", tuple(Node(i, "any") for i in ids), wires)


def test_what_a_damaged_file_has_for_variant_settings_gives_way() -> None:
    graph = Graph(nodes=(Node("a", "any", {"method_settings": "damaged"}),))
    changed = edits.set_setting(graph, "a", "method_settings.rank", 3)
    assert changed.node("a").settings == {"method_settings": {"rank": 3}}
    assert edits.reset_setting(graph, "a", "method_settings.rank").node("a").settings == {}


def test_order_and_reach() -> None:
    graph = chain("a", "b", "c")
    shuffled = Graph("x", tuple(reversed(graph.nodes)), graph.wires)
    assert topological_order(shuffled) == ("a", "b", "c")
    assert graph.downstream("b") == {"b", "c"}
    assert graph.upstream("b") == {"a", "b"}
    assert graph.wire_into("b", "in") == Wire("a", "out", "b", "in")


def test_a_cycle_names_its_nodes() -> None:
    graph = edits.connect(chain("a", "b", "c"), Wire("c", "out", "b", "back"))
    with pytest.raises(CycleError) as caught:
        topological_order(graph)
    assert set(caught.value.nodes) == {"b", "c"}


def test_removing_a_node_takes_its_wires() -> None:
    graph = edits.remove(chain("a", "b", "c"), ["b"])
    assert graph.ids() == ("a", "c")
    assert graph.wires == ()


def test_an_input_takes_one_wire() -> None:
    graph = edits.connect(chain("a", "b", "c"), Wire("a", "other", "c", "in"))
    assert graph.wire_into("c", "in") == Wire("a", "other", "c", "in")
    assert len(graph.wires) == 2


def test_settings_and_nested_ones() -> None:
    graph = edits.set_setting(chain("a"), "a", "r", 4)
    graph = edits.set_setting(graph, "a", "method_settings.rank", 2)
    graph = edits.set_setting(graph, "a", "method_settings.scale", 3)
    assert graph.node("a").settings == {"r": 4, "method_settings": {"rank": 2, "scale": 3}}
    graph = edits.reset_setting(graph, "a", "method_settings.rank")
    assert graph.node("a").settings["method_settings"] == {"scale": 3}
    graph = edits.reset_setting(graph, "a", "method_settings.scale")
    graph = edits.reset_setting(graph, "a", "r")
    graph = edits.reset_setting(graph, "a", "never_set")
    graph = edits.reset_setting(graph, "a", "never.set")
    assert graph == chain("a")


def test_unknown_nodes_are_refused() -> None:
    for edit in (
        lambda g: edits.set_setting(g, "x", "r", 1),
        lambda g: edits.retitle(g, "x", "X"),
        lambda g: edits.move(g, {"x": (0, 0)}),
    ):
        with pytest.raises(KeyError):
            edit(chain("a"))
    with pytest.raises(ValueError, match="taken"):
        edits.add_node(chain("a"), Node("a", "any"))


def test_ids_count_up() -> None:
    graph = Graph(nodes=(Node("train", "t"), Node("train2", "t")))
    assert edits.unique_id(graph, "train") == "train3"
    assert edits.unique_id(graph, "train2") == "train3"
    assert edits.unique_id(graph, "new") == "new"
    assert edits.unique_id(graph, "7") == "node"


def test_paste_keeps_inner_wires_under_new_ids() -> None:
    graph = chain("a", "b", "c")
    pasted, ids = edits.paste(graph, edits.subgraph(graph, ["a", "b"]), (10, 20))
    assert ids == ("a2", "b2")
    assert Wire("a2", "out", "b2", "in") in pasted.wires
    assert pasted.node("a2").position == (10, 20)
    assert len(pasted.wires) == 3


@given(graphs(), NAMES, POSITIONS)
def test_an_edit_never_changes_its_graph(graph: Graph, name: str, offset: tuple) -> None:
    copy = Graph(graph.name, graph.nodes, graph.wires, graph.extra)
    edits.rename(graph, name)
    pasted, ids = edits.paste(graph, graph, offset)
    for node in graph.nodes:
        edits.set_setting(graph, node.id, name, 1)
        edits.remove(graph, [node.id])
    assert graph == copy
    assert edits.remove(pasted, ids) == graph


@given(graphs())
def test_every_wire_points_forward_in_the_order(graph: Graph) -> None:
    order = topological_order(graph)
    assert sorted(order) == sorted(graph.ids())
    assert all(order.index(w.source) < order.index(w.target) for w in graph.wires)


@given(graphs(), st.data())
def test_what_check_wire_allows_never_makes_a_cycle(graph: Graph, data: st.DataObject) -> None:
    if len(graph.nodes) < 2:
        return
    ids = st.sampled_from(graph.ids())
    wire = Wire(data.draw(ids), "a", data.draw(ids), "x")
    refusal = check_wire(graph, toy_runs.registry(), wire, replacing=True)
    if refusal is None:
        topological_order(edits.connect(graph, wire))


TOYS = toy_runs.graph()


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (Wire("gone", "dataset", "train", "dataset"), "missing_node"),
        (Wire("source", "gone", "train", "dataset"), "missing_port"),
        (Wire("source", "dataset", "train", "gone"), "missing_port"),
        (Wire("train", "adapter", "train", "dataset"), "same_node"),
        (Wire("source", "dataset", "block", "adapter"), "wrong_type"),
        (Wire("source", "dataset", "train", "dataset"), "duplicate"),
        (Wire("train", "adapter", "export", "model"), "input_taken"),
    ],
)
def test_refusals_have_a_reason_and_a_sentence(wire: Wire, reason: str) -> None:
    refusal = check_wire(TOYS, toy_runs.registry(), wire)
    assert refusal is not None
    assert refusal.reason == reason
    assert refusal.sentence.endswith(".")


def test_a_cycle_is_refused_and_a_taken_input_may_be_replaced() -> None:
    graph = edits.remove(TOYS, wires=[TOYS.wires[0]])
    both = edits.add_node(graph, Node("second", "toy_train"))
    loop = Graph("x", (*both.nodes, Node("eval", "toy_block")), both.wires)
    assert (
        check_wire(loop, toy_runs.registry(), Wire("train", "adapter", "eval", "adapter")) is None
    )
    taken = Wire("train", "adapter", "export", "model")
    assert check_wire(TOYS, toy_runs.registry(), taken, replacing=True) is None
    plain = chain("a", "b", "c")
    refusal = check_wire(plain, toy_runs.registry(), Wire("c", "out", "a", "in"))
    assert refusal is not None
    assert refusal.reason == "cycle"


def test_wires_of_a_missing_type_are_kept() -> None:
    assert check_wire(chain("a", "b"), toy_runs.registry(), Wire("a", "x", "b", "y")) is None
