"""What is named before a run is resumed whose project has changed."""

from __future__ import annotations

from pathlib import Path

from studio.graph.edits import disconnect, remove, set_setting
from studio.graph.graph import Graph, Node
from studio.graph.registry import load_registry
from studio.runs.compare import Comparison, compare
from studio.runs.fingerprint import resolved_settings
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step, compile_plan
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import registry


def run_of(graph: Graph, place: Path) -> RunFolder:
    """A run that was created and has done nothing yet."""
    plan = compile_plan(graph, registry(), place).plan
    assert plan is not None
    return RunFolder.create(place / "runs", plan, graph)


def against(run: RunFolder, graph: Graph, place: Path) -> Comparison:
    return compare(run, graph, registry(), place)


def test_an_unchanged_project_has_no_differences(tmp_path: Path) -> None:
    graph = toy_runs.graph()
    run = run_of(graph, tmp_path)
    assert against(run, graph, tmp_path) == Comparison()


def test_fields_nodes_and_wires_are_named(tmp_path: Path) -> None:
    graph = toy_runs.graph()
    run = run_of(graph, tmp_path)
    changed = set_setting(graph, "train", "steps", 9)
    changed = set_setting(changed, "source", "text", "")
    assert against(run, changed, tmp_path).lines == (
        "Source: Text hello → empty",
        "Train: Steps 5 → 9",
    )
    (wire,) = [w for w in graph.wires if w.target == "train"]
    assert against(run, disconnect(graph, wire), tmp_path).lines == (
        "Train: input Dataset Source → not connected",
    )
    assert (
        "Export: removed from the project"
        in against(run, remove(graph, ["export"]), tmp_path).lines
    )
    more = Graph(graph.name, (*graph.nodes, Node("x", "toy_source", title="Mine")), graph.wires)
    assert against(run, more, tmp_path).lines == ("Mine: added to the project",)


def test_a_value_that_is_not_valid_is_named_too(tmp_path: Path) -> None:
    graph = toy_runs.graph()
    run = run_of(graph, tmp_path)
    lines = against(run, set_setting(graph, "train", "steps", -3), tmp_path).lines
    assert lines == ("Train: Steps 5 → -3",)


def test_a_file_that_has_changed(tmp_path: Path) -> None:
    """A step that has not finished could not continue with it."""
    (tmp_path / "rows.txt").write_text("one", "utf-8")
    graph = toy_runs.graph(source={"file": "rows.txt"})
    run = run_of(graph, tmp_path)
    (tmp_path / "rows.txt").write_text("another", "utf-8")
    found = against(run, graph, tmp_path)
    assert found.lines == ("Source: its files, or the version of this node, have changed",)
    assert not found.can_continue
    (run.steps / f"{run.plan().step('source').fingerprint}.json").write_text("{}", "utf-8")
    assert against(run, graph, tmp_path).can_continue


def test_settings_of_a_method_are_named_by_field(tmp_path: Path) -> None:
    known = load_registry()
    lora = known.node_type("lora")
    assert lora is not None
    node = Node("lora", "lora", {"method": "adalora", "method_settings": {"target_r": 8}})
    settings = resolved_settings(lora, node.settings, known)
    plan = Plan("L", tmp_path, (Step("lora", "lora", lora.version, "LoRA", settings, {}, "f"),))
    graph = Graph("L", (node,))
    run = RunFolder.create(tmp_path / "runs", plan, graph)
    changed = set_setting(graph, "lora", "method_settings.target_r", 4)
    assert against(run, changed, tmp_path).lines == ("LoRA: Target rank 8 → 4",)
    changed = set_setting(changed, "lora", "r", 99)
    assert "LoRA: Rank (r) 16 → 99" in against(run, changed, tmp_path).lines
