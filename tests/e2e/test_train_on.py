"""A chain of trainings: checked, estimated, run in the terminal, and trained further from an adapter of elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Problem
from studio.estimate.graph import estimate_graph
from studio.estimate.job import Facts, job_of
from studio.estimate.machine import Machine
from studio.graph.graph import Graph
from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.recipe.facts import recipe_facts
from studio.recipe.recipe import propose
from tests.e2e.studio_cli import ROOT, studio, write_rows
from tests.tiny import make_tiny_model

FIXTURES = ROOT / "tests" / "fixtures" / "adapters"
TRAIN = {"max_steps": 4, "batch_size": 2, "max_length": 64, "learning_rate": 1e-3}


def write(path: Path, start: list[tuple[str, dict[str, Any]]], **second: Any) -> Path:
    """Nodes that end with an adapter or a model with LoRA, in a row, a Train node behind them, and what follows."""
    nodes: list[dict[str, Any]] = [
        {"id": "base", "type": "base_model", "settings": {"model": "model", "dtype": "float32"}},
        {"id": "data", "type": "dataset", "settings": {"source": "rows.jsonl"}},
        {
            "id": "more",
            "type": "dataset",
            "settings": {"source": "more.jsonl", "split_mode": "count"},
        },
        *({"id": kind, "type": kind, "settings": s} for kind, s in start),
        {"id": "second", "type": "train", "settings": {**TRAIN, **second}},
        {"id": "merge", "type": "merge"},
        {"id": "share", "type": "export", "settings": {"folder": "adapter-out"}},
        {"id": "test", "type": "evaluate", "settings": {"rows": 4, "max_new_tokens": 8}},
    ]
    kinds = [kind for kind, _ in start]
    ports = {
        "lora": ("model", "model"),
        "train": ("model", "adapter"),
        "load_adapter": ("model", "adapter"),
    }
    ports["resize"] = ("adapter", "adapter")
    wires = [("base.model", f"{kinds[0]}.{ports[kinds[0]][0]}")]
    for one, two in zip(kinds, [*kinds[1:], "second"], strict=True):
        wires.append((f"{one}.{ports[one][1]}", f"{two}.{ports.get(two, ('model',))[0]}"))
    if "train" in kinds:
        wires.append(("data.dataset", "train.dataset"))
    wires += [
        ("more.dataset", "second.dataset"),
        ("second.adapter", "merge.adapter"),
        ("second.adapter", "share.model"),
        ("more.dataset", "test.dataset"),
        ("second.adapter", "test.model"),
    ]
    project = {
        "format": "lora-studio",
        "version": 3,
        "name": "Chain",
        "nodes": [n for n in nodes if "train" in kinds or n["id"] != "data"],
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    path.write_text(json.dumps(project), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the tiny model and two files of rows."""
    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    write_rows(tmp_path / "more.jsonl", 12)
    return tmp_path


def graph_of(root: Path, start: list[tuple[str, dict[str, Any]]], **second: Any) -> Graph:
    return load_project(write(root / "a.studio", start, **second))


def problems(root: Path, start: list[tuple[str, dict[str, Any]]], **second: Any) -> list[Problem]:
    found = find_problems(graph_of(root, start, **second), load_registry(), root)
    return [p for p in found if p.node == "second"]


def counted(root: Path, start: list[tuple[str, dict[str, Any]]]) -> tuple[str, int]:
    """The method and the number of trainable parameters of the last training, as estimated."""
    graph = graph_of(root, start)
    machine = Machine("CPU", "cpu", 64 << 30, 64 << 30, False, 0)
    estimate = estimate_graph(graph, load_registry(), root, Facts(machine), "second")
    job = job_of(graph, load_registry(), root, graph.node("second"))
    assert job.base is not None
    assert estimate.trainable is not None
    return job.lora.method, estimate.trainable


CHAIN = [("lora", {"r": 4, "alpha": 8}), ("train", TRAIN)]


def test_what_stays_is_said_before_the_run(root: Path) -> None:
    (found,) = problems(root, CHAIN)
    assert (found.code, found.severity, found.field) == ("goes_on", "info", "model")
    assert "(rank 4, alpha 8) stay as they are" in found.sentence
    (found,) = problems(root, [("lora", {"method": "pissa", "r": 4, "alpha": 8}), ("train", TRAIN)])
    assert "(rank 8, alpha 16)" in found.sentence
    (found,) = problems(root, [("load_adapter", {"adapter": str(FIXTURES / "peft-0.13")})])
    assert found.code == "goes_on"


def test_the_rate_and_the_template_of_a_chain_are_checked(root: Path) -> None:
    assert "rate_for_method" in {p.code for p in problems(root, CHAIN, learning_rate=0.5)}
    found = [p.sentence for p in problems(root, CHAIN, chat_template="chatml")]
    assert any("the earlier training formats its rows with the model's own" in s for s in found)


def test_a_chain_is_estimated_with_its_lora(root: Path) -> None:
    """The rank that the first training leaves, and that of a received adapter."""
    alone = counted(root, [("lora", {"r": 4})])
    assert counted(root, CHAIN) == alone
    assert (
        counted(root, [("lora", {"r": 8}), ("train", TRAIN), ("resize", {"by": "rank", "r": 4})])
        == alone
    )
    pissa = [("lora", {"r": 2, "method": "pissa"}), ("train", TRAIN)]
    assert counted(root, pissa) == alone
    received = counted(root, [("load_adapter", {"adapter": str(FIXTURES / "peft-0.13")})])
    lora, targets = (
        json.loads((FIXTURES / "peft-0.13" / "adapter_config.json").read_text(encoding="utf-8")),
        "target_modules",
    )
    same = [("lora", {"r": lora["r"], targets: ", ".join(lora[targets])})]
    assert received == counted(root, same)


def test_the_recipe_of_a_second_training_leaves_the_rank(root: Path) -> None:
    """Its LoRA node belongs to the first training."""
    graph, machine = (
        graph_of(root, CHAIN),
        Machine("CPU", "cpu", 64 << 30, 64 << 30, False, 0),
    )
    registry = load_registry()
    first = recipe_facts(graph, registry, root, "train", facts=Facts(machine))
    second = recipe_facts(graph, registry, root, "second", facts=Facts(machine))
    assert (first.lora, second.lora, second.method) == ("lora", None, "lora")
    assert {p.node for p in propose(second)}.isdisjoint({"lora"})
    assert any(p.field == "learning_rate" for p in propose(second))


@pytest.mark.slow(seconds=60)
def test_a_chain_is_run_evaluated_merged_and_exported(root: Path) -> None:
    """The second training starts at the loss that the first ended with; a change of its settings reuses the first."""
    project = write(root / "a.studio", CHAIN)
    ran = studio("run", project, "--runs", root / "runs", "--json")
    assert ran.status == "completed", ran.err
    (evaluation,) = ran.of("Evaluation")
    assert set(evaluation["measures"]["exact_match"]) == {"before", "after"}
    card = (root / "adapter-out" / "README.md").read_text(encoding="utf-8")
    assert "Stage 1: Data" in card
    assert "Stage 2: Data" in card
    assert "more.jsonl" in card
    write(root / "a.studio", CHAIN, max_steps=6)
    again = studio("run", project, "--runs", root / "runs", "--json")
    reused = {e["node"] for e in again.of("StepFinished") if e["cached"]}
    assert "train" in reused
    assert "second" not in reused


@pytest.mark.parametrize(
    "name",
    [
        "peft-0.13",
        pytest.param("peft-0.15", marks=pytest.mark.slow(seconds=20)),
        pytest.param("peft-0.17", marks=pytest.mark.slow(seconds=20)),
    ],
)
def test_a_received_adapter_is_trained_further(root: Path, name: str) -> None:
    """As plain PEFT of other versions has written it."""
    shutil.copytree(FIXTURES / name, root / "received")
    project = write(root / "a.studio", [("load_adapter", {"adapter": "received"})])
    ran = studio("run", project, "--runs", root / "runs", "--json")
    assert ran.status == "completed", ran.err
    card = (root / "adapter-out" / "README.md").read_text(encoding="utf-8")
    assert "from received, trained further with LoRA Studio" in card
