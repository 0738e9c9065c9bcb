"""Nodes that no training uses are named in a warning, and a run that trains nothing says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from studio.graph.graph import Graph, Node, Wire
from studio.graph.problems import find_problems
from studio.graph.registry import Registry, load_registry
from studio.graph.unused import without_training
from studio.runs.plan import compile_plan
from studio.system.paths import assets_dir
from tests.studio.runs import toys

REGISTRY = load_registry()


def graph_of(*nodes: str | Node, wires: str = "") -> Graph:
    """Nodes (a type is its own id), and wires as ``data.dataset>train.dataset``."""
    made = tuple(n if isinstance(n, Node) else Node(n, n) for n in nodes)
    ends = [w.split(">") for w in wires.split()]
    return Graph("Mine", made, tuple(Wire(*a.split("."), *b.split(".")) for a, b in ends))


def unused(graph: Graph, registry: Registry = REGISTRY) -> dict[str | None, tuple[str, str]]:
    """Node -> sentence and hint of its warning."""
    found = [p for p in find_problems(graph, registry, Path.cwd()) if p.code == "unused_node"]
    assert all(p.severity == "warning" and not p.blocks and p.field is None for p in found)
    assert len({p.node for p in found}) == len(found)
    return {p.node: (p.sentence, p.hint) for p in found}


LORA = "base_model.model>lora.model"
TRAINING = f"dataset.dataset>train.dataset {LORA} lora.model>train.model"


@pytest.mark.parametrize(
    ("type_id", "users"),
    [
        ("dataset", "a Train or Evaluate node"),
        ("mix", "a Train or Evaluate node"),
        ("base_model", "a LoRA or Train node"),
        ("lora", "a Train node"),
    ],
)
def test_a_node_without_a_wire_is_named_with_what_to_do(type_id: str, users: str) -> None:
    node = Node("mine", type_id, title="My part")
    hint = f"Connect it to {users}, or delete it."
    assert unused(graph_of(node)) == {"mine": ("My part: not used by any training.", hint)}


def test_every_node_of_a_chain_names_the_end_that_must_be_connected() -> None:
    found = unused(graph_of("dataset", "mix", wires="dataset.dataset>mix.a"))
    assert found["dataset"][1] == "Connect “Mix” to a Train or Evaluate node."
    assert found["mix"][1] == "Connect it to a Train or Evaluate node, or delete it."
    assert unused(graph_of("base_model", "lora", wires=LORA))["base_model"] == (
        "Base model: not used by any training.",
        "Connect “LoRA” to a Train node.",
    )


def test_one_use_of_a_result_is_enough() -> None:
    training = ("dataset", "base_model", "lora", "train")
    assert unused(graph_of(*training, wires=TRAINING)) == {}
    second = graph_of(
        *training, "mix", wires=f"{TRAINING} dataset.dataset>mix.a dataset.dataset>mix.b"
    )
    assert set(unused(second)) == {"mix"}
    assert set(unused(graph_of(*training, Node("other", "lora"), wires=TRAINING))) == {"other"}


@pytest.mark.parametrize(
    "graph",
    [
        graph_of("dataset", "evaluate", wires="dataset.dataset>evaluate.dataset"),
        graph_of("base_model", "evaluate", wires="base_model.model>evaluate.model"),
        graph_of("base_model", "export", wires="base_model.model>export.model"),
        graph_of("base_model", "train", wires="base_model.model>train.model"),
        graph_of("train", "merge", wires="train.adapter>merge.adapter"),
        graph_of("train", "resize", "evaluate", "export", "merge"),
        graph_of("dataset", Node("odd", "from_an_extension"), wires="dataset.dataset>odd.in"),
    ],
    ids=lambda g: "-".join(g.ids()),
)
def test_no_false_warning(graph: Graph) -> None:
    assert unused(graph) == {}


def test_cycles_and_wires_to_nowhere_are_reported_once_and_end() -> None:
    circle = graph_of("mix", Node("two", "mix"), wires="mix.dataset>two.a two.dataset>mix.a")
    assert set(unused(circle)) == {"mix", "two"}
    assert set(unused(graph_of("dataset", wires="dataset.dataset>gone.dataset"))) == {"dataset"}


def test_an_extension_is_warned_of_only_where_it_says_that_it_prepares() -> None:
    registry = REGISTRY.with_nodes([toys.SOURCE])
    graph = graph_of(Node("mine", toys.SOURCE.id))
    assert unused(graph, registry) == {}
    assert without_training(graph, registry) is None  # it may train
    says = REGISTRY.with_nodes([replace(toys.SOURCE, purpose="prepare")])
    assert set(unused(graph, says)) == {"mine"}
    assert without_training(graph, says) is not None


def test_the_starter_project_uses_all_its_nodes() -> None:
    from studio.graph.project import load_project

    graph = load_project(assets_dir() / "starter.studio")
    assert unused(graph) == {}
    assert without_training(graph, REGISTRY) is None


# ---------------------------------------------------------------- a run without a training


def sentences(graph: Graph) -> tuple[str, str, str]:
    found = without_training(graph, REGISTRY)
    assert found is not None
    return found.before, found.after, found.hint


def test_a_dropped_file_alone() -> None:
    assert sentences(graph_of(Node("d", "dataset", title="My data"))) == (
        "This project has no Train node: a run only prepares “My data” and trains nothing.",
        "Prepared: “My data”. Nothing was trained.",
        "To train, add the nodes Base model, LoRA and Train, connect Base model to LoRA, and LoRA and "
        "“My data” to Train.",
    )


def test_only_what_is_missing_is_to_be_added() -> None:
    before, after, hint = sentences(graph_of("dataset", "base_model", "lora", wires=LORA))
    assert "only prepares “Dataset”, “Base model” and “LoRA” and" in before
    assert after.startswith("Prepared: “Dataset”, “Base model” and “LoRA”.")
    assert hint == "To train, add a Train node, and connect “LoRA” and “Dataset” to it."
    loose = sentences(graph_of("dataset", "base_model", "lora"))[2]
    assert loose.endswith("node, connect “Base model” to “LoRA”, and “LoRA” and “Dataset” to it.")
    mixed = graph_of("dataset", Node("b", "dataset"), "mix", "base_model", "lora", wires=LORA)
    before, _, hint = sentences(mixed)
    assert "“Dataset”, “Dataset” and 3 more" in before
    assert "“LoRA” and “Mix” to it" in hint


def test_an_export_of_a_model_runs_but_trains_nothing() -> None:
    graph = graph_of("base_model", "export", wires="base_model.model>export.model")
    before, after, hint = sentences(graph)
    assert "a run only executes “Base model” and “Export” and trains nothing" in before
    assert after == "Executed: “Base model” and “Export”. Nothing was trained."
    assert hint.startswith("To train, add the nodes Dataset, LoRA and Train, connect “Base model”")


def test_it_is_stated_with_the_plan_and_blocks_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "one", "completion": "1"}\n{"prompt": "two", "completion": "2"}\n', "utf-8"
    )
    graph = graph_of(Node("data", "dataset", {"source": "a.jsonl"}))
    compiled = compile_plan(graph, REGISTRY, tmp_path)
    assert compiled.plan is not None
    assert [(p.node, p.code, p.severity) for p in compiled.problems] == [
        ("data", "unused_node", "warning"),
        (None, "no_training", "info"),
    ]
    assert without_training(Graph(), REGISTRY) is None
    broken = graph_of(Node("data", "dataset", {"source": "gone.jsonl"}))
    refused = compile_plan(broken, REGISTRY, tmp_path)
    assert "no_training" not in [p.code for p in refused.problems]
