"""A run in the terminal that ends early, keeps its best evaluation and writes samples on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.runs.folder import find_run
from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.run_state import read_state
from tests.tiny import make_tiny_model


def test_a_run_that_learns_by_heart_ends_and_keeps_its_best(tmp_path: Path) -> None:
    """Far too high a learning rate: the validation loss falls, then rises. What is saved is the best
    step's, the screens' state says so, and a second start of the project finds all of it kept."""
    home = {"LORA_STUDIO_HOME": str(tmp_path / "home")}
    train = {
        "max_steps": 60,
        "eval_steps": 2,
        "learning_rate": 0.1,
        "lr_scheduler": "constant",
        "early_stopping": 2,
        "keep": "best",
        "sample_prompts": "say ax\nsay bz",
        "sample_max_tokens": 4,
    }
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_model(tmp_path / "model"),
        write_rows(tmp_path / "r.jsonl"),
        train=train,
    )
    ran = studio("run", project, "--json", "--runs", tmp_path / "runs", **home)
    assert (ran.code, ran.status) == (0, "completed"), ran.err
    (ended,) = ran.of("EarlyStopped")
    assert ended["step"] < ended["steps"] == 60
    evals = {e["step"]: e["eval_loss"] for e in ran.of("Metric") if "eval_loss" in e}
    best = min(evals, key=lambda step: evals[step])
    assert best == ended["best_step"] == ended["step"] - 4
    (adapter,) = [e for e in ran.of("ArtifactSaved") if e["node"] == "train"]
    assert (adapter["kept_step"], adapter["best_eval_loss"]) == (best, evals[best])
    steps = sorted({e["step"] for e in ran.of("Sample")})
    assert steps == [0, *evals]

    folder = find_run(tmp_path / "runs", next((tmp_path / "runs").iterdir()).name)
    state = read_state(folder)
    assert state.metrics["train"].best_eval() == (best, evals[best])
    assert state.early_stops["train"]["best_step"] == best
    grid = state.samples["train"]
    assert (grid.prompts, grid.steps) == (["say ax", "say bz"], steps)

    again = studio("run", project, "--runs", tmp_path / "runs", **home)
    assert "unchanged, reused" in again.out


@pytest.mark.slow(seconds=9)
def test_the_terminal_tells_samples_and_the_early_end(tmp_path: Path) -> None:
    """In words, and only once each."""
    home = {"LORA_STUDIO_HOME": str(tmp_path / "home")}
    train = {
        "max_steps": 60,
        "eval_steps": 2,
        "learning_rate": 0.1,
        "lr_scheduler": "constant",
        "early_stopping": 2,
        "sample_prompts": "say ax",
        "sample_max_tokens": 4,
    }
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_model(tmp_path / "model"),
        write_rows(tmp_path / "r.jsonl"),
        train=train,
    )
    ran = studio("run", project, "--runs", tmp_path / "runs", **home)
    assert ran.code == 0, ran.err
    assert ran.out.count("stopped early after step") == 1
    assert "step 0: say ax → " in ran.out
