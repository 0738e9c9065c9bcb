"""The progress of a real training, run twice: its stages, its share, and the time left at each event."""

from __future__ import annotations

from pathlib import Path

from studio.events import Event
from studio.runs.outcome import outcome_of
from studio.runs.progress import UNKNOWN, Progress, progress_of
from studio.runs.state import RunState
from tests.e2e.studio_cli import Ran, studio, write_project, write_rows
from tests.tiny import make_tiny_model

STAGES = ("prepare", "load", "train", "save", "verify", "merge", "export")


def test_a_real_run_in_each_phase_and_the_same_run_again(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    project = write_project(
        tmp_path / "p.studio",
        model,
        write_rows(tmp_path / "r.jsonl"),
        train={"max_steps": 3},
        export={"check_rows": 4},
    )
    runs = ("--runs", str(tmp_path / "runs"), "--json")
    first, state = played(studio("run", project, *runs))
    assert state.status == "completed"
    assert {p.stages for p in first if len(p.stages) > 1} == {STAGES}
    assert list(dict.fromkeys(p.stages[p.stage] for p in first)) == list(STAGES)
    assert [p.fraction for p in first] == sorted(p.fraction for p in first)
    before = first[: next(i for i, p in enumerate(first) if p.phase.startswith("Train 1"))]
    assert {p.left for p in before} == {UNKNOWN}
    assert {"Importing PyTorch and its libraries", "Loading the model"} <= {p.doing for p in first}
    said = outcome_of(state).sentence()
    made = "Made: merged model, exported merged model, "
    assert all(words in said for words in ("Loss ", "validation loss ", made))

    again, _ = played(studio("run", project, *runs, "--set", "train.seed=7"))
    assert "Dataset" not in {p.title for p in again if p.phase != "Starting"}
    training = [p for p in again if p.phase.startswith("Train 1")]
    assert training
    assert all(p.left_s is not None and not p.at_least for p in training)


def played(ran: Ran) -> tuple[list[Progress], RunState]:
    """The progress after each event of a step, and the state at the end."""
    assert ran.code == 0, ran.err
    state, shown = RunState(), []
    for line in ran.events:
        data = dict(line)
        event = Event(data.pop("event"), data.pop("time"), data.pop("node", None), data)
        state.apply(event)
        progress = progress_of(state, event.time)
        if progress is not None and progress.node:
            shown.append(progress)
    return shown, state
