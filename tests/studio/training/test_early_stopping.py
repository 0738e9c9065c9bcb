"""Early stopping and the best evaluation: which step is kept, and that a resume changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped
from studio.runs.cadence import cadence_of, length_of
from studio.training.loop.metrics import Metrics
from studio.training.loop.state import TrainingState
from studio.training.loop.train import train_adapter
from studio.training.saved.tensor_files import read_tensors
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

CURVE = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.2, 10: 3.0, 12: 3.9, 14: 3.8, 16: 3.7, 18: 3.6, 20: 3.5}
"""The validation loss by step: it falls, rises, falls and rises for good."""


@pytest.fixture
def told_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations that give the losses of ``CURVE``."""
    from studio.training.loop import train

    def evaluator_of(context: Any, state: TrainingState, *more: Any) -> Any:
        return lambda: CURVE.get(state.step, 9.0)

    monkeypatch.setattr(train, "evaluator_of", evaluator_of)


def best_settings(**changes: Any) -> Any:
    """Twenty steps with an evaluation after every second one."""
    values = {"max_steps": 20, "eval_steps": 2, "keep": "best", "save_steps": 5, **changes}
    return settings_of(**values)


def weights(path: Path) -> dict[str, Any]:
    """The trained weights of a folder as lists, to be compared exactly."""
    return {n: t.tolist() for n, t in read_tensors(path / "adapter_model.safetensors").items()}


@pytest.mark.usefixtures("told_losses")
def test_it_ends_when_the_loss_has_not_fallen(tmp_path: Path) -> None:
    """Three evaluations after the best of step 10, which is saved and reported."""
    recorder = Recorder()
    inputs = make_inputs(tmp_path, 20, 4)
    value = train_adapter(make_context(tmp_path, recorder), inputs, best_settings(early_stopping=3))
    (stopped,) = recorder.named("EarlyStopped")
    assert (stopped.get("step"), stopped.get("steps"), stopped.get("best_step")) == (16, 20, 10)
    assert stopped.get("reason") == (
        "The validation loss has not fallen in the last 3 evaluations; it was lowest after step 10: 3."
    )
    assert len(recorder.losses()) == 16
    assert (value.metrics["best_step"], value.metrics["kept_step"]) == (10, 10)
    assert value.metrics["best_eval_loss"] == 3.0
    plain = Recorder()
    other = settings_of(max_steps=10)
    train_adapter(make_context(tmp_path / "ten", plain), inputs, other)
    assert weights(Path(value.path)) == weights(tmp_path / "ten/step/adapter")
    assert [p.name for p in (tmp_path / "checkpoints/best").iterdir()] == ["step-000010"]


@pytest.mark.usefixtures("told_losses")
@pytest.mark.parametrize("after", [9, 11, 15])
def test_a_resumed_run_ends_at_the_same_step_with_the_same_weights(
    tmp_path: Path, after: int
) -> None:
    """Stopped before and after the best evaluation: patience and best are in the checkpoint."""
    settings = best_settings(early_stopping=3)
    inputs = make_inputs(tmp_path, 20, 4, dropout=0.2)
    whole, first, second = Recorder(), Recorder(), Recorder()
    one = train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= after),
            inputs,
            settings,
        )
    two = train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert first.losses() + second.losses() == whole.losses()
    assert [e.get("step") for e in second.named("EarlyStopped")] == [16]
    assert weights(Path(one.path)) == weights(Path(two.path))
    assert two.metrics["kept_step"] == 10


@pytest.mark.usefixtures("told_losses")
def test_a_run_that_ended_early_is_not_trained_again(tmp_path: Path) -> None:
    """It failed after its training: resumed, it goes straight to the adapter."""
    settings = best_settings(early_stopping=2)
    inputs = make_inputs(tmp_path, 20, 4)
    before = weights(Path(train_adapter(make_context(tmp_path, Recorder()), inputs, settings).path))
    shutil.rmtree(tmp_path / "step")
    recorder = Recorder()
    value = train_adapter(make_context(tmp_path, recorder), inputs, settings)
    assert recorder.losses() == []
    assert [e.get("step") for e in recorder.named("EarlyStopped")] == [8]
    assert weights(Path(value.path)) == before
    assert value.metrics["kept_step"] == 4


@pytest.mark.parametrize(("patience", "at", "left"), [(0, 6, 0), (2, 6, 0), (0, 6, 2)])
def test_a_stop_inside_an_evaluation_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int, at: int, left: int
) -> None:
    """The resumed run measures what is missing, then ends as if it had never stopped."""
    from studio.training.loop import evaluation

    inputs = make_inputs(tmp_path, 20, 4)
    inputs["model"]["model"]["dtype"] = "bfloat16"
    if patience:
        settings = best_settings(early_stopping=patience, min_delta=1.0, sample_prompts="cat?")
    else:
        settings = best_settings(max_steps=at + left, sample_prompts="cat?")
    whole, first, second = Recorder(), Recorder(), Recorder()
    one = train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    real = evaluation.validation_loss

    def validation_loss(*arguments: Any) -> float:
        if len(first.losses()) == at:
            raise Stopped("train")
        return real(*arguments)

    monkeypatch.setattr(evaluation, "validation_loss", validation_loss)
    with pytest.raises(Stopped):
        train_adapter(make_context(tmp_path / "b", first), inputs, settings)
    monkeypatch.undo()
    two = train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert len(second.losses()) == left
    for name in ("eval_loss", "best_eval_loss", "kept_step", "best_step"):
        assert one.metrics[name] == two.metrics[name]
    assert weights(Path(one.path)) == weights(Path(two.path))
    for event in ("Sample", "Insight", "EarlyStopped"):
        steps = [e.get("step") for e in first.named(event) + second.named(event)]
        assert steps == [e.get("step") for e in whole.named(event)]


@pytest.mark.parametrize("best", [0, 1])
def test_what_has_learned_nothing_is_never_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    """Neither the start nor a first step of rate 0: the best of what was trained, and a word."""
    from studio.training.loop import train

    monkeypatch.setattr(train, "evaluator_of", lambda c, state, *m: lambda: abs(state.step - best))
    recorder = Recorder()
    value = train_adapter(
        make_context(tmp_path, recorder),
        make_inputs(tmp_path, 20, 4),
        settings_of(
            max_steps=4,
            eval_steps=1,
            keep="best",
            eval_at_start=best == 0,
            warmup_steps=2,
            early_stopping=3,
        ),
    )
    assert value.metrics["kept_step"] == 2
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert sum("lowest before training: 0." in sentence for sentence in sentences) == 1
    for event in recorder.named("EarlyStopped"):
        assert "lowest before training: 0." in event.get("reason")


def test_two_best_weights_are_there_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that falls at every evaluation does not fill the disk between two checkpoints."""
    from studio.training.loop import train

    folder, seen = tmp_path / "checkpoints/best", []

    def evaluator_of(context: Any, state: TrainingState, *more: Any) -> Any:
        def evaluate() -> float:
            seen.append(sorted(p.name for p in folder.iterdir()) if folder.exists() else [])
            return 9.0 - state.step

        return evaluate

    monkeypatch.setattr(train, "evaluator_of", evaluator_of)
    train_adapter(
        make_context(tmp_path, Recorder()),
        make_inputs(tmp_path, 20, 4),
        settings_of(max_steps=6, eval_steps=1, keep="best", save_steps=3),
    )
    assert seen[-1] == ["step-000003", "step-000005"]
    assert max(len(names) for names in seen) == 2


@pytest.mark.usefixtures("told_losses")
def test_without_keep_best_the_last_step_is_the_result(tmp_path: Path) -> None:
    """No folder of best weights is written."""
    value = train_adapter(
        make_context(tmp_path, Recorder()),
        make_inputs(tmp_path, 20, 4),
        best_settings(keep="last", early_stopping=3),
    )
    assert (value.metrics["best_step"], value.metrics["kept_step"]) == (10, 16)
    assert not (tmp_path / "checkpoints/best").exists()


METHODS: dict[str, dict[str, Any]] = {
    "adalora": {"r": 12, "alpha": 12},  # its ranks at the end are not those of the best step
    "pissa": {},  # its start is taken out of the base
    "vera": {},
}


@pytest.mark.usefixtures("told_losses")
@pytest.mark.parametrize("method", METHODS)
def test_the_best_weights_of_other_methods(tmp_path: Path, method: str) -> None:
    """They load into the trained model, are written and read back as they were."""
    inputs = make_inputs(tmp_path, 20, 4, method=method, **METHODS[method])
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, best_settings())
    assert value.metrics["kept_step"] == 10
    assert value.reload_difference < 1e-3


@pytest.mark.usefixtures("told_losses")
def test_best_weights_that_are_gone_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is saved instead of nothing."""
    from studio.training.loop import saver

    real = saver.load_best

    def load_best(folder: Path, *more: Any) -> bool:
        shutil.rmtree(folder / "best")
        return real(folder, *more)

    monkeypatch.setattr(saver, "load_best", load_best)
    recorder = Recorder()
    value = train_adapter(
        make_context(tmp_path, recorder), make_inputs(tmp_path, 20, 4), best_settings()
    )
    assert value.metrics["kept_step"] == 20
    assert any(
        "the best evaluation, are missing" in e.get("sentence") for e in recorder.named("Notice")
    )


def test_patience_counts_from_the_last_fall_that_was_large_enough() -> None:
    """The best is the lowest all the same; a loss that is not a number is never an improvement."""
    metrics = Metrics()
    losses = [5.0, 4.95, 4.9, 4.7, float("nan")]
    best = [metrics.record_evaluation(i, loss, 0.2) for i, loss in enumerate(losses)]
    assert best == [True, True, True, True, False]
    assert (metrics.best_eval_step, metrics.awaited_loss, metrics.waited) == (3, 4.7, 1)
    assert Metrics.from_json(metrics.to_json()).waited == 1


@pytest.mark.parametrize(
    ("settings", "every"),
    [
        ({"eval_steps": 7}, 7),
        ({"eval_by": "epoch", "eval_share": 0.5}, 5),
        ({"eval_by": "run", "eval_share": 0.25}, 10),
        ({"eval_by": "epoch", "eval_share": 0.01}, 1),
        ({"eval_by": "steps"}, 4),
    ],
)
def test_evaluations_by_steps_or_share(settings: dict[str, Any], every: int) -> None:
    """40 steps, 10 an epoch."""
    chosen = settings_of(max_steps=40, batch_size=2, **settings)
    cadence = cadence_of(chosen, length_of(chosen, 20), 50)
    assert cadence.eval_every == every
    assert not cadence.evaluates(0, 40)
    assert cadence.evaluates(40, 40)


def test_an_evaluation_at_the_start(tmp_path: Path) -> None:
    """The base model's own loss, before any step, and once."""
    recorder = Recorder()
    train_adapter(
        make_context(tmp_path, recorder),
        make_inputs(tmp_path, 20, 4),
        settings_of(max_steps=4, eval_steps=2, eval_at_start=True),
    )
    found = [e.get("step") for e in recorder.named("Metric") if e.get("eval_loss") is not None]
    assert found == [0, 2, 4]
