"""The grid of prompts by checkpoints, and what else a screen learns of a training's turns."""

from __future__ import annotations

from typing import Any

from studio.events import Event, event
from studio.runs.samples import MOST_PROMPTS, MOST_STEPS, SampleGrid
from studio.runs.series import Series
from studio.runs.state import RunState


def sample(step: int, prompt: str, text: str, **more: Any) -> Event:
    """A ``Sample`` event of the node “train”."""
    return event("Sample", "train", step=step, index=0, prompt=prompt, text=text, **more)


def state_of(*events: Event) -> RunState:
    """The state after these events."""
    state = RunState()
    for one in events:
        state.apply(one)
    return state


def test_the_grid_fills_by_prompt_and_step() -> None:
    """Prompts keep their order; an answer that comes again replaces the earlier one."""
    state = state_of(
        sample(0, "b?", "x", tokens=3, seconds=0.5),
        sample(0, "a?", "y", expected="z", cut=True),
        sample(10, "b?", "old"),
        sample(10, "b?", "new"),
    )
    grid = state.samples["train"]
    assert (grid.prompts, grid.steps) == (["b?", "a?"], [0, 10])
    first = grid.at("b?", 0)
    assert first is not None
    assert (first.text, first.tokens, first.seconds, first.cut) == ("x", 3, 0.5, False)
    second = grid.at("a?", 0)
    assert second is not None
    assert (second.expected, second.cut) == ("z", True)
    last = grid.at("b?", 10)
    assert last is not None
    assert last.text == "new"
    assert grid.at("a?", 10) is None


def test_the_grid_is_bounded_and_keeps_first_and_newest() -> None:
    grid = SampleGrid()
    for i in range(MOST_PROMPTS + 5):
        grid.add({"prompt": f"{i}", "step": 0, "text": ""})
    assert len(grid.prompts) == MOST_PROMPTS
    for step in range(3 * MOST_STEPS):
        grid.add({"prompt": "0", "step": step, "text": str(step)})
    assert len(grid.steps) <= MOST_STEPS
    assert (grid.steps[0], grid.steps[-1]) == (0, 3 * MOST_STEPS - 1)
    assert {step for _, step in grid.cells} == set(grid.steps)


def test_a_resume_takes_back_what_was_not_kept() -> None:
    """Samples, recoveries and an early end after the checkpoint are void."""
    state = state_of(
        sample(0, "a?", "x"),
        sample(10, "a?", "y"),
        event("MemoryRecovered", "train", step=4, batch_size=2, accumulation=2, attempt=1, most=3),
        event("MemoryRecovered", "train", step=9, batch_size=1, accumulation=4, attempt=2, most=3),
        event(
            "EarlyStopped", "train", step=10, steps=20, reason="…", best_step=6, best_eval_loss=1.0
        ),
        event("TrainResumed", "train", step=5),
    )
    assert state.samples["train"].steps == [0]
    assert [r["step"] for r in state.recoveries] == [4]
    assert state.early_stops == {}


def test_the_best_evaluation() -> None:
    """The lowest finite loss, and the earliest of equal ones."""
    series = Series()
    assert series.best_eval() is None
    for step, loss in ((1, 2.0), (2, "nan"), (3, 1.5), (4, 1.5), (5, 1.9)):
        series.add(0.0, {"step": step, "eval_loss": loss})
    assert series.best_eval() == (3, 1.5)


def test_a_new_start_forgets_that_numbers_were_none() -> None:
    event_of_step = event(
        "NonFinite", "train", step=3, what="loss", value=float("nan"), rows=[], kept=2
    )
    state = state_of(event_of_step)
    assert state.non_finite is not None
    assert state.non_finite["step"] == 3
    state.apply(event("RunStarted", None, run="r", nodes=[]))
    assert state.non_finite is None
