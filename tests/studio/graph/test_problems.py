"""Problems: everything that can be seen without running, placed on its node and field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from studio.errors import Problem, StudioError
from studio.graph import edits
from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import CheckContext, Variant
from studio.graph.problems import find_problems
from studio.graph.registry import Registry, load_registry
from studio.graph.schema import Settings, setting
from tests.studio.runs import toy_runs, toys

TOYS = Registry().with_nodes(toys.NODES)


def codes(graph: Graph, registry: Registry = TOYS) -> list[tuple[str | None, str | None, str]]:
    problems = find_problems(graph, registry, Path.cwd())
    assert all(p.sentence.endswith(".") for p in problems)
    return [(p.node, p.field, p.code) for p in problems]


def test_a_good_graph_has_none() -> None:
    assert codes(toy_runs.graph()) == []


def test_the_empty_canvas() -> None:
    assert codes(Graph()) == [(None, None, "empty")]


def test_everything_at_once_in_drawing_order() -> None:
    graph = Graph(
        "x",
        (
            Node("train", "toy_train", {"steps": 0, "stepz": 1}),
            Node("gone", "from_an_extension"),
            Node("block", "toy_block"),
        ),
        (Wire("gone", "x", "block", "adapter"),),
    )
    assert codes(graph) == [
        ("train", "steps", "invalid_setting"),
        ("train", "stepz", "unknown_setting"),
        ("train", "dataset", "unconnected"),
        ("gone", None, "unknown_type"),
    ]


def test_a_loop_is_shown_on_its_nodes() -> None:
    graph = Graph(
        "x",
        (Node("a", "toy_block"), Node("b", "toy_export")),
        (
            Wire("a", "model", "b", "model"),
            Wire("b", "x", "a", "adapter"),
        ),
    )
    found = codes(graph)
    assert ("a", None, "cycle") in found
    assert ("b", None, "cycle") in found


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (Wire("source", "dataset", "block", "adapter"), "wrong_type"),
        (Wire("source", "gone", "train", "dataset"), "missing_port"),
        (Wire("gone", "dataset", "train", "dataset"), "missing_node"),
        (Wire("source", "dataset", "train", "gone"), "missing_port"),
    ],
)
def test_wires_of_a_hand_written_file(wire: Wire, code: str) -> None:
    graph = edits.connect(toy_runs.graph(), wire)
    assert (wire.target, wire.target_port, code) in codes(graph)


def test_duplicates_of_a_hand_written_file() -> None:
    graph = toy_runs.graph()
    twice = replace(graph, nodes=(*graph.nodes, graph.nodes[0]))
    assert ("source", None, "duplicate_id") in codes(twice)
    double = replace(graph, wires=(*graph.wires, graph.wires[0]))
    assert {c for *_, c in codes(double)} & {"duplicate", "input_taken"}


class Own(Settings):
    rank: int = setting(4, "Rank", "A number.", ge=1)


class WithVariant(Settings):
    method: str = setting("plain", "Method", "Which.", variant="adapter")
    method_settings: dict = setting({}, "Method settings", "Its settings.")


def checked(settings: WithVariant, context: CheckContext) -> Iterable[Problem]:
    if settings.method == "warned":
        yield context.problem("this is slow.", "method", severity="warning", code="slow")
    if settings.method == "lost":
        Path("~nobody-of-this-name/x").expanduser()
    if settings.method == "raised":
        raise StudioError("No such thing.", field="method", code="raised")


NODE = replace(
    toys.SOURCE,
    id="variant",
    title="Chooser",
    settings=WithVariant,
    check=checked,
    files=lambda settings, project_dir: (),
)
CHOICES = [Variant("adapter", i, i, "One.", Own) for i in ("plain", "warned", "raised", "lost")]
VARIANTS = Registry().with_nodes([NODE]).with_variants(CHOICES)


def of(settings: dict) -> list[Problem]:
    return find_problems(Graph(nodes=(Node("n", "variant", settings),)), VARIANTS, Path.cwd())


def test_variants_and_their_settings() -> None:
    assert of({}) == []
    (problem,) = of({"method": "fancy"})
    assert (problem.field, problem.code) == ("method", "unknown_variant")
    assert "lost, plain, raised, warned" in problem.hint
    (problem,) = of({"method_settings": {"rank": 0}})
    assert problem.field == "method_settings.rank"
    assert problem.sentence == "Chooser: Rank is 0, but it must be at least 1."


def test_a_check_of_its_own() -> None:
    (warning,) = of({"method": "warned"})
    assert not warning.blocks
    assert warning.sentence == "Chooser: this is slow."
    (error,) = of({"method": "raised"})
    assert (error.node, error.field, error.code, error.blocks) == ("n", "method", "raised", True)


def test_a_path_that_no_system_takes_is_a_problem_and_no_crash() -> None:
    (problem,) = of({"method": "lost"})
    assert (problem.node, problem.code, problem.blocks) == ("n", "unusable_setting", True)
    assert problem.sentence.startswith("Chooser: its settings cannot be checked: ")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 300, "a\0b", "/" * 5000])
@pytest.mark.parametrize(
    ("node_type", "field"), [("dataset", "source"), ("base_model", "model"), ("export", "folder")]
)
def test_odd_paths_in_the_real_nodes(tmp_path: Path, path: str, node_type: str, field: str) -> None:
    graph = Graph(nodes=(Node("n", node_type, {field: path}),))
    find_problems(graph, load_registry(), tmp_path)  # says what it likes, but does not raise


def test_a_problem_as_json_leaves_empty_fields_out() -> None:
    assert Problem("No.", "n").to_json() == {
        "sentence": "No.",
        "node": "n",
        "code": "invalid",
        "severity": "error",
    }
