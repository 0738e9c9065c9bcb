"""What a user sees while it trains: figures of every step, evaluations, a stop that is quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import Stopped, StudioError
from studio.runs.cadence import cadence_of, length_of
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

FIELDS = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "epoch", "eta_s", "ram_process_gib")


def test_every_step_tells_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One Metric per optimizer step, all fields, and nothing on standard output."""
    recorder = Recorder()
    inputs = make_inputs(tmp_path, 20, 4)
    capsys.readouterr()
    train_adapter(make_context(tmp_path, recorder), inputs, settings_of(max_steps=5))
    steps = [e for e in recorder.named("Metric") if e.get("loss") is not None]
    assert [e.get("step") for e in steps] == [1, 2, 3, 4, 5]
    assert all(isinstance(e.get(name), float) for e in steps for name in FIELDS)
    assert {e.get("steps") for e in steps} == {5}
    assert steps[-1].get("epoch") == pytest.approx(0.5)
    assert sum(e.get("tokens") for e in steps) > 0
    assert capsys.readouterr().out == ""


def test_the_validation_loss_falls(tmp_path: Path) -> None:
    """Measured at the cadence that was asked for, and at the end."""
    recorder = Recorder()
    value = train_adapter(
        make_context(tmp_path, recorder),
        make_inputs(tmp_path, 20, 6),
        settings_of(max_steps=25, eval_steps=10),
    )
    found = [e for e in recorder.named("Metric") if e.get("eval_loss") is not None]
    assert [e.get("step") for e in found] == [10, 20, 25]
    losses = [e.get("eval_loss") for e in found]
    assert losses[-1] < losses[0]
    assert value.metrics["eval_loss"] == losses[-1]


def test_an_evaluation_is_without_dropout_and_changes_nothing(tmp_path: Path) -> None:
    """The same losses however often is measured, and the same validation loss whatever was drawn."""
    inputs = make_inputs(tmp_path, 20, 4, dropout=0.5)
    sentences = {}
    for every in (1, 6):
        sentences[every] = Recorder()
        context = make_context(tmp_path / str(every), sentences[every])
        train_adapter(context, inputs, settings_of(eval_steps=every))
    assert sentences[1].losses() == sentences[6].losses()
    last = [
        [e.get("eval_loss") for e in r.named("Metric") if e.get("eval_loss") is not None][-1]
        for r in sentences.values()
    ]
    assert last[0] == last[1]


def test_a_run_of_one_step_learns_in_spite_of_the_warm_up(tmp_path: Path) -> None:
    recorder = Recorder()
    settings = settings_of(max_steps=1, warmup_ratio=0.03)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    (metric,) = [e for e in recorder.named("Metric") if e.get("loss") is not None]
    assert metric.get("learning_rate") > 0


def test_the_end_of_the_data_needs_no_full_batch(tmp_path: Path) -> None:
    """1.5 epochs of 15 rows in steps of 4 rows: 22 rows, 6 steps, the last of 2 rows."""
    recorder = Recorder()
    settings = settings_of(max_steps=0, epochs=1.5, batch_size=2, gradient_accumulation_steps=2)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path, 15), settings)
    steps = [e for e in recorder.named("Metric") if e.get("loss") is not None]
    assert len(steps) == 6
    assert steps[-1].get("epoch") == pytest.approx(22 / 15, abs=1e-3)


def test_a_stop_ends_at_once_and_keeps_the_work(tmp_path: Path) -> None:
    """No step more of a long run, and a checkpoint of the last one."""
    recorder = Recorder()
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path, recorder, lambda: len(recorder.losses()) >= 5),
            make_inputs(tmp_path),
            settings_of(max_steps=100_000, save_steps=1000),
        )
    assert [e.get("step") for e in recorder.named("CheckpointSaved")] == [5]


def test_a_stop_before_the_first_step(tmp_path: Path) -> None:
    """While the model loads or the rows are read: no checkpoint, no adapter."""
    recorder = Recorder()
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path, recorder, lambda: True), make_inputs(tmp_path), settings_of()
        )
    assert recorder.named("CheckpointSaved") == []
    assert not (tmp_path / "step" / "adapter").exists()


def test_gradient_checkpointing_trains_the_same(tmp_path: Path) -> None:
    """Less memory, equal losses."""
    plain, saving = Recorder(), Recorder()
    inputs = make_inputs(tmp_path)
    train_adapter(make_context(tmp_path / "a", plain), inputs, settings_of())
    train_adapter(
        make_context(tmp_path / "b", saving), inputs, settings_of(gradient_checkpointing=True)
    )
    assert saving.losses() == pytest.approx(plain.losses(), abs=1e-5)


def test_out_of_memory_says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator's error becomes a sentence with a way out that has not been tried."""
    import torch

    from studio.training.loop.training_loop import TrainingLoop

    def full(self: object, *args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(TrainingLoop, "forward_backward", full)
    with pytest.raises(StudioError, match=r"there is not enough (GPU )?memory") as caught:
        train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings_of())
    assert "1. Choose the optimizer AdamW 8-bit, paged." in caught.value.hint
    assert caught.value.field == "optimizer"


def test_automatic_evaluations_stay_cheap() -> None:
    """They take at most a fifth of the training's work, however many validation rows there are."""
    settings = settings_of(max_steps=60, batch_size=8)
    length = length_of(settings, 1400)
    cadence = cadence_of(settings, length, 5000)
    times = sum(cadence.evaluates(s, length.steps) for s in range(1, length.steps + 1))
    assert times == 10
    assert cadence.eval_rows * times / 3 <= 0.2 * length.rows
