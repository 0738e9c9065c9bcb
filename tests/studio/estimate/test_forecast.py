"""How long the phases of a run will take: read from the events of earlier runs of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.estimate import forecast
from studio.estimate.forecast import forecast_of
from studio.events import Event
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, compile_plan
from tests.e2e.studio_cli import write_project, write_rows
from tests.tiny import make_tiny_model

HERE = {"device": "a card", "cpu": "a processor", "cpu_count": 8}
PHASES = [("load", 10.0), ("train", 28.0), ("save", 3.0)]
BEGUN = [
    ("RunStarted", 0, {}),
    ("StepStarted", 100, {}),
    ("Phase", 102, {"phase": "load"}),
    ("Phase", 112, {"phase": "train"}),
    ("Phase", 120, {"phase": "evaluate"}),
    ("Phase", 122, {"phase": "train"}),
    ("Phase", 140, {"phase": "save"}),
]
ENDED = [*BEGUN, ("StepFinished", 143, {"cached": False})]


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    make_tiny_model(tmp_path / "tiny")
    make_tiny_model(tmp_path / "other")
    rows = write_rows(tmp_path / "rows.jsonl", 8)
    monkeypatch.setattr(forecast, "machine_key", lambda _: "a card / a processor / 8")
    monkeypatch.setattr(forecast, "_estimated_training", lambda *_: 77.0)
    return load_project(write_project(tmp_path / "talk.studio", "tiny", rows))


def plan_of(graph: Graph, place: Path) -> Plan:
    compiled = compile_plan(graph, load_registry(), place)
    assert compiled.plan is not None, compiled.problems
    return compiled.plan


def earlier(place: Path, graph: Graph, events: Any = ENDED, where: Any = HERE) -> RunFolder:
    run = RunFolder.create(place / "runs", plan_of(graph, place), graph)
    run.environment_path.write_text(json.dumps(where), encoding="utf-8")
    for name, at, data in events:
        run.append(Event(name, float(at), None if name == "RunStarted" else "train", dict(data)))
    return run


def found(place: Path, graph: Graph) -> dict[str, Any]:
    plan = plan_of(graph, place)
    return forecast_of(plan, graph, load_registry(), place / "runs", True)


def test_the_same_step_takes_its_phases_again(graph: Graph, tmp_path: Path) -> None:
    """An evaluation within the training is part of it; what comes before the first phase is not shown."""
    earlier(tmp_path, graph)
    assert found(tmp_path, graph)["train"] == PHASES


def test_another_training_on_the_same_base_is_estimated(graph: Graph, tmp_path: Path) -> None:
    """Loading and saving depend on the base model; the training itself on its settings."""
    earlier(tmp_path, graph)
    changed = set_setting(graph, "lora", "r", 64)
    assert found(tmp_path, changed)["train"] == [("load", 10.0), ("train", 77.0), ("save", 3.0)]


def test_another_base_model_is_unknown(graph: Graph, tmp_path: Path) -> None:
    earlier(tmp_path, graph)
    changed = set_setting(graph, "base", "model", "other")
    assert "train" not in found(tmp_path, changed)


def test_the_same_step_is_preferred_to_a_newer_similar_one(graph: Graph, tmp_path: Path) -> None:
    earlier(tmp_path, graph)
    longer = [(name, at * 3, data) for name, at, data in ENDED]
    earlier(tmp_path, set_setting(graph, "lora", "r", 64), longer)
    assert found(tmp_path, graph)["train"] == PHASES


@pytest.mark.parametrize(
    ("events", "where"),
    [
        (ENDED, {**HERE, "device": "another card"}),
        (BEGUN, HERE),
        ([*BEGUN, ("TrainResumed", 141, {}), ENDED[-1]], HERE),
        ([*BEGUN, ("RunStarted", 141, {}), ENDED[-1]], HERE),
        ([*BEGUN, ("StepFinished", 143, {"cached": True})], HERE),
    ],
    ids=["another machine", "not finished", "resumed", "another execution", "reused"],
)
def test_times_that_say_nothing_are_left_out(
    graph: Graph, tmp_path: Path, events: Any, where: Any
) -> None:
    earlier(tmp_path, graph, events, where)
    assert "train" not in found(tmp_path, graph)


@pytest.mark.parametrize("damaged", ["plan.json", "events.jsonl", "environment.json"])
def test_a_damaged_run_does_not_hide_another(graph: Graph, tmp_path: Path, damaged: str) -> None:
    earlier(tmp_path, graph)
    broken = earlier(tmp_path, graph)
    (broken.path / damaged).write_bytes(b"\xff\x00{" * 9)
    assert found(tmp_path, graph)["train"] == PHASES


def test_the_time_does_not_run_backwards(graph: Graph, tmp_path: Path) -> None:
    """The clock of the computer was set back during the run."""
    events = [(n, at + 9000 if at < 112 else at, d) for n, at, d in ENDED]
    earlier(tmp_path, graph, events)
    assert all(seconds >= 0 for _, seconds in found(tmp_path, graph)["train"])
