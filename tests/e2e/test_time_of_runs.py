"""The time estimated from one real run, compared with the time of the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.graph.graph import Graph
from studio.graph.project import load_project, save_project
from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.tiny import make_tiny_model

FACTOR = 3.0
"""Runs of seconds on a machine that does other things: longer ones agree better (docs/estimate.md)."""


@pytest.mark.slow(seconds=28)
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
    assert studio("run", project, "--json", *runs).code == 0
    changes = [
        word
        for setting in ("max_steps=40", "batch_size=4", "gradient_checkpointing=true")
        for word in ("--set", f"train.{setting}")
    ]
    estimate = json.loads(studio("estimate", project, "--json", *runs, *changes).out)
    assert estimate["seconds_from"].endswith("with other settings")
    assert estimate["seconds_low"] < estimate["seconds"] < estimate["seconds_high"]
    ran = studio("run", project, "--json", *runs, *changes)
    steps = [e for e in ran.of("Metric") if e["node"] == "train" and "loss" in e]
    trained = sum(e["tokens"] / e["tokens_per_s"] for e in steps)
    assert trained / FACTOR < estimate["seconds_parts"]["training"] < trained * FACTOR
    (took,) = [e["seconds"] for e in ran.of("StepFinished") if e["node"] == "train"]
    assert took / FACTOR < estimate["seconds"] < took * FACTOR


def only_training(project: Path) -> None:
    """Leave out what comes after the Train node."""
    graph = load_project(project)
    kept = [n for n in graph.nodes if n.id in ("data", "base", "lora", "train")]
    names = {n.id for n in kept}
    wires = [w for w in graph.wires if {w.source, w.target} <= names]
    save_project(project, Graph(graph.name, tuple(kept), tuple(wires)))
