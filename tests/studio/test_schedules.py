"""The learning-rate curves: equal to those of transformers, and exact where a user would look."""

from __future__ import annotations

from typing import Any

import pytest

from studio.node_settings.schedules import rate_factor, warmup_steps
from studio.node_settings.train import TrainSettings

STEPS = 40


def curve(steps: int = STEPS, **settings: Any) -> list[float]:
    """The share of the learning rate at every step."""
    chosen = TrainSettings(**settings)
    return [rate_factor(chosen, step, steps) for step in range(steps)]


def of_transformers(name: str, **more: Any) -> list[float]:
    """The same curve as transformers computes it."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=4,
        num_training_steps=STEPS,
        scheduler_specific_kwargs=more,
    )
    found = []
    for _ in range(STEPS):
        found.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return found


CASES = {
    "constant": ("constant_with_warmup", {}, {}),
    "linear": ("linear", {}, {}),
    "cosine": ("cosine", {}, {}),
    "cosine_with_restarts": ("cosine_with_restarts", {"lr_cycles": 3}, {"num_cycles": 3}),
    "cosine_with_min_lr": ("cosine_with_min_lr", {"min_lr_ratio": 0.1}, {"min_lr_rate": 0.1}),
    "inverse_sqrt": ("inverse_sqrt", {}, {}),
    "polynomial": (
        "polynomial",
        {"lr_power": 2.0, "min_lr_ratio": 0.1},
        {"power": 2.0, "lr_end": 0.1},
    ),
    "wsd": (
        "warmup_stable_decay",
        {"decay_ratio": 0.25, "min_lr_ratio": 0.1},
        {"num_decay_steps": 10, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_curve_is_that_of_transformers(name: str) -> None:
    """At every step of a run with warm-up."""
    theirs, ours, more = CASES[name]
    found = curve(lr_scheduler=name, warmup_steps=4, **ours)
    assert found == pytest.approx(of_transformers(theirs, **more), abs=1e-15)


def test_values_that_a_user_would_look_for() -> None:
    """Start, middle and end of the curves without warm-up."""
    plain: dict[str, Any] = {"warmup_ratio": 0.0}
    assert curve(lr_scheduler="linear", **plain)[::10] == [1.0, 0.75, 0.5, 0.25]
    assert curve(lr_scheduler="cosine", **plain)[20] == pytest.approx(0.5)
    low = curve(lr_scheduler="cosine_with_min_lr", min_lr_ratio=0.2, **plain)
    assert (low[0], min(low)) == (1.0, low[-1])
    assert 0.2 < low[-1] < 0.21
    restarts = curve(lr_scheduler="cosine_with_restarts", lr_cycles=4, **plain)
    assert restarts[0] == restarts[10] == restarts[20] == 1.0
    wsd = curve(lr_scheduler="wsd", decay_ratio=0.25, min_lr_ratio=0.0, **plain)
    assert set(wsd[:30]) == {1.0}
    assert sorted(wsd[30:], reverse=True) == wsd[30:]
    assert wsd[-1] < 0.06
    assert set(curve(lr_scheduler="constant", **plain)) == {1.0}


def test_the_decay_begins_after_the_warm_up() -> None:
    """Where both together are longer than the run, the decay is shortened: the rate reaches its peak."""
    wsd = curve(lr_scheduler="wsd", warmup_steps=20, decay_ratio=0.8, min_lr_ratio=0.0)
    assert wsd[20] == 1.0
    assert sorted(wsd[20:], reverse=True) == wsd[20:]


def test_warm_up_by_share_and_by_steps() -> None:
    """Steps win over the share; no warm-up is longer than the run; a run of one step has none."""
    assert warmup_steps(TrainSettings(warmup_ratio=0.1), 40) == 4
    assert warmup_steps(TrainSettings(warmup_ratio=0.1, warmup_steps=7), 40) == 7
    assert warmup_steps(TrainSettings(warmup_steps=700), 40) == 40
    assert warmup_steps(TrainSettings(warmup_steps=7), 1) == 0
    assert curve(1, warmup_ratio=0.5) == [1.0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_have_a_rate(name: str, steps: int) -> None:
    """Every curve stays within 0 and 1 and moves at least one step."""
    found = curve(steps, lr_scheduler=name, warmup_ratio=0.03)
    assert all(0.0 <= share <= 1.0 for share in found)
    assert max(found) > 0.2
