"""The time estimated from one real run, compared with the time of the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.graph.graph import Graph
from studio.graph.project import load_project, save_project
from tests.e2e.studio_cli import Ran, studio, write_project, write_rows
from tests.tiny import make_tiny_model

FACTOR = 3.0
"""Runs of seconds: longer ones agree better (docs/estimate.md)."""


@pytest.mark.slow(seconds=40)
def test_the_next_run_takes_about_as_long_as_was_told(tmp_path: Path) -> None:
    """Twice the steps, twice the batch, computed twice: scaled from a run with other settings."""
    model = make_tiny_model(tmp_path / "model", layers=6, hidden=256)
    project = write_project(
        tmp_path / "p.studio", model, write_rows(tmp_path / "r.jsonl"), train={"max_steps": 20}
    )
    only_training(project)
    runs = ("--runs", str(tmp_path / "runs"))
    before = studio("estimate", project, "--json", *runs)
    assert json.loads(before.out)["seconds"] is None
    first = studio("run", project, "--json", *runs)
    assert first.code == 0
    changes = [
        word
        for setting in ("max_steps=40", "batch_size=4", "gradient_checkpointing=true")
        for word in ("--set", f"train.{setting}")
    ]
    estimate = json.loads(studio("estimate", project, "--json", *runs, *changes).out)
    assert estimate["seconds_from"].endswith("with other settings")
    assert estimate["seconds_low"] < estimate["seconds"] < estimate["seconds_high"]
    ran = studio("run", project, "--json", *runs, *changes)
    again = studio("run", project, "--json", *runs, "--set", "train.seed=7")
    for seconds, expected in (
        (training_s, estimate["seconds_parts"]["training"]),
        (step_s, estimate["seconds"]),
    ):
        drift = max(seconds(first) / seconds(again), seconds(again) / seconds(first))
        factor = FACTOR * drift  # what else the machine did meanwhile
        assert seconds(ran) / factor < expected < seconds(ran) * factor


def training_s(ran: Ran) -> float:
    """The seconds in which a run trained."""
    steps = [e for e in ran.of("Metric") if e["node"] == "train" and "loss" in e]
    return float(sum(e["tokens"] / e["tokens_per_s"] for e in steps))


def step_s(ran: Ran) -> float:
    """The seconds of its Train step, with loading and saving."""
    (took,) = [e["seconds"] for e in ran.of("StepFinished") if e["node"] == "train"]
    return float(took)


def only_training(project: Path) -> None:
    """Leave out what comes after the Train node."""
    graph = load_project(project)
    kept = [n for n in graph.nodes if n.id in ("data", "base", "lora", "train")]
    names = {n.id for n in kept}
    wires = [w for w in graph.wires if {w.source, w.target} <= names]
    save_project(project, Graph(graph.name, tuple(kept), tuple(wires)))
