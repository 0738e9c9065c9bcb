"""Finish: a training that the user ends keeps its best weights, and is not trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_early_stopping import best_settings, told_losses, weights

__all__ = ["told_losses"]


def asked_after(recorder: Recorder, steps: int) -> Callable[[str], dict[str, Any] | None]:
    """A Finish that is requested once, while step ``steps`` is running."""
    waiting = [{}]

    def take(name: str) -> dict[str, Any] | None:
        begun = len(recorder.losses()) >= steps
        return waiting.pop() if name == "finish" and begun and waiting else None

    return take


@pytest.mark.usefixtures("told_losses")
@pytest.mark.parametrize(("keep", "kept"), [("best", 4), ("last", 7)])
def test_it_evaluates_once_more_and_keeps_what_the_settings_say(
    tmp_path: Path, keep: str, kept: int
) -> None:
    """Finished after step 7 of 20: its loss (9) is no improvement on that of step 4."""
    recorder = Recorder()
    inputs = make_inputs(tmp_path, 20, 4)
    context = make_context(tmp_path, recorder, take_command=asked_after(recorder, 7))
    value = train_adapter(context, inputs, best_settings(keep=keep))
    assert len(recorder.losses()) == 7
    (ended,) = recorder.named("EarlyStopped")
    assert (ended.get("step"), ended.get("steps"), ended.get("best_step")) == (7, 20, 4)
    evaluated = [e.get("step") for e in recorder.named("Metric") if e.get("eval_loss")]
    assert evaluated == [2, 4, 6, 7]
    assert value.metrics["kept_step"] == kept
    assert not context.reusable
    plain = Recorder()
    train_adapter(make_context(tmp_path / "n", plain), inputs, settings_of(max_steps=kept))
    assert weights(Path(value.path)) == weights(tmp_path / "n/step/adapter")


def test_the_last_step_may_be_the_best_one(tmp_path: Path) -> None:
    """Without a told curve: the evaluation of the last step counts like any other."""
    recorder = Recorder()
    context = make_context(tmp_path, recorder, take_command=asked_after(recorder, 3))
    value = train_adapter(context, make_inputs(tmp_path, 20, 4), best_settings())
    losses = {e.get("step"): e.get("eval_loss") for e in recorder.named("Metric")}
    losses = {step: loss for step, loss in losses.items() if loss is not None}
    assert list(losses) == [2, 3]
    assert value.metrics["kept_step"] == min(losses, key=lambda step: losses[step])


@pytest.mark.usefixtures("told_losses")
def test_a_run_that_fails_afterwards_is_not_trained_on(tmp_path: Path) -> None:
    """The request is in the checkpoint: resumed, the run goes straight to the adapter."""
    inputs = make_inputs(tmp_path, 20, 4)
    first, second = Recorder(), Recorder()
    context = make_context(tmp_path, first, take_command=asked_after(first, 5))
    before = weights(Path(train_adapter(context, inputs, best_settings()).path))
    shutil.rmtree(tmp_path / "step")
    again = make_context(tmp_path, second)
    value = train_adapter(again, inputs, best_settings())
    assert second.losses() == []
    assert [e.get("step") for e in second.named("EarlyStopped")] == [5]
    assert weights(Path(value.path)) == before
    assert not again.reusable


def test_a_stop_in_the_last_evaluation_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finish, then Stop before the evaluation has ended: the resumed run evaluates and ends."""
    from studio.training.loop import evaluation

    inputs = make_inputs(tmp_path, 20, 4)
    first, second = Recorder(), Recorder()
    real = evaluation.validation_loss

    def validation_loss(*arguments: Any) -> float:
        if len(first.losses()) == 5:
            raise Stopped("train")
        return real(*arguments)

    monkeypatch.setattr(evaluation, "validation_loss", validation_loss)
    context = make_context(tmp_path, first, take_command=asked_after(first, 5))
    with pytest.raises(Stopped):
        train_adapter(context, inputs, best_settings())
    monkeypatch.undo()
    train_adapter(make_context(tmp_path, second), inputs, best_settings())
    assert second.losses() == []
    evaluated = [e.get("step") for e in second.named("Metric") if e.get("eval_loss")]
    assert evaluated == [5]
    assert [e.get("step") for e in second.named("EarlyStopped")] == [5]


def test_a_request_during_an_evaluation_adds_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation may take minutes: its step is the last one."""
    from studio.training.loop import evaluation

    recorder, asked = Recorder(), []
    real = evaluation.validation_loss

    def validation_loss(*arguments: Any) -> float:
        if len(recorder.losses()) == 4:
            asked.append({})
        return real(*arguments)

    def take(name: str) -> dict[str, Any] | None:
        return asked.pop() if name == "finish" and asked else None

    monkeypatch.setattr(evaluation, "validation_loss", validation_loss)
    context = make_context(tmp_path, recorder, take_command=take)
    train_adapter(context, make_inputs(tmp_path, 20, 4), best_settings())
    assert len(recorder.losses()) == 4
    evaluated = [e.get("step") for e in recorder.named("Metric") if e.get("eval_loss")]
    assert evaluated == [2, 4]


def test_a_request_before_the_first_step_is_declined(tmp_path: Path) -> None:
    """There is nothing to keep; a sentence says so, and the training is whole."""
    recorder = Recorder()
    context = make_context(tmp_path, recorder, take_command=asked_after(recorder, 0))
    train_adapter(context, make_inputs(tmp_path), settings_of(max_steps=3))
    assert len(recorder.losses()) == 3
    assert any("before the first step" in e.get("sentence") for e in recorder.named("Notice"))
    assert recorder.named("EarlyStopped") == []
    assert context.reusable


def test_a_request_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    """The training is whole, so that later runs may reuse it."""
    recorder = Recorder()
    context = make_context(tmp_path, recorder, take_command=asked_after(recorder, 3))
    train_adapter(context, make_inputs(tmp_path), settings_of(max_steps=3))
    assert recorder.named("EarlyStopped") == []
    assert context.reusable
