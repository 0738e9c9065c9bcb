"""float16's loss scaling: a step that overflows is left out, and spoils nothing.

On a GPU accelerate brings the scaling; here torch's own scaler is put into its place, on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import Stopped, StudioError
from studio.training.loop import training_loop
from studio.training.loop.train import train_adapter
from studio.training.loop.training_loop import TrainingLoop
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of


def scaled_float16(
    root: Path, monkeypatch: pytest.MonkeyPatch, overflows: Callable[[int], bool], **adapter: Any
) -> dict[str, Any]:
    """Inputs in float16, trained with loss scaling as on a GPU; ``overflows(step)`` says in which
    steps a gradient is too large."""
    begin, real = training_loop.make_accelerator, TrainingLoop.forward_backward

    def make_accelerator(dtype: str, model: Any) -> Any:
        accelerator = begin(dtype, model)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        accelerator.native_amp = True
        return accelerator

    def forward_backward(self: Any, *batch: Any) -> Any:
        loss = real(self, *batch)
        if overflows(self.state.step + 1):
            parameters = self.state.tuning.model.parameters()
            next(p for p in parameters if p.grad is not None).grad[0] = float("inf")
        return loss

    monkeypatch.setattr(training_loop, "make_accelerator", make_accelerator)
    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    inputs = make_inputs(root, **adapter)
    inputs["model"]["model"].update(dtype="float16")
    return inputs


def test_loss_scaling_that_cannot_help_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that overflows in float16 is left out; when all do, the rest of the night is not spent."""
    inputs = scaled_float16(tmp_path, monkeypatch, lambda step: step == 2 or step > 4)
    recorder = Recorder()
    with pytest.raises(StudioError, match="the gradient of step 14 is"):  # 2**9 halved nine times
        train_adapter(make_context(tmp_path, recorder), inputs, settings_of(max_steps=40))
    assert len(recorder.losses()) == 13
    assert recorder.named("NonFinite")[0].get("kept") == 13


def test_a_left_out_step_does_not_spoil_what_adalora_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The importance of its ranks comes from gradients, and is kept from step to step."""
    inputs = scaled_float16(
        tmp_path,
        monkeypatch,
        lambda step: step == 2,
        method="adalora",
        method_settings={"target_r": 2},
    )
    train_adapter(
        make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=6, save_steps=3)
    )
    found = load_file(tmp_path / "checkpoints/step-000003/method.safetensors")
    assert any(bool(value.any()) for value in found.values())
    assert all(bool(value.isfinite().all()) for value in found.values())


@pytest.mark.parametrize(
    ("skipped", "level", "advice"),
    [(range(2, 4), "info", ""), (range(2, 20), "warning", "float32")],
)
def test_steps_that_were_left_out_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skipped: range, level: str, advice: str
) -> None:
    """Also those before a stop; a few at the beginning are usual."""
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", lambda self: 2.0)  # never at its end
    inputs = scaled_float16(tmp_path, monkeypatch, lambda step: step in skipped)
    settings = settings_of(max_steps=24)
    first, second = Recorder(), Recorder()
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path, first, lambda: len(first.losses()) >= 3), inputs, settings
        )
    train_adapter(make_context(tmp_path, second), inputs, settings)
    (told,) = (e for e in second.named("Notice") if "loss scaling" in e.get("sentence"))
    assert told.get("sentence").startswith(f"{len(skipped)} of 24 steps")
    assert told.get("level") == level
    assert advice in told.get("hint")
    assert bool(advice) == bool(told.get("hint"))


def factor(checkpoint: Path) -> float:
    """The scaling's factor in a checkpoint."""
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return float(state["figures"]["scaler"]["scale"])


def test_the_factor_outlives_a_batch_that_did_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass that goes on has a scaler of its own, which must not begin anew."""

    def overflows(step: int) -> bool:
        if step == 4 and not recorder.named("MemoryRecovered"):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step == 2

    recorder = Recorder()
    inputs = scaled_float16(tmp_path, monkeypatch, overflows)
    train_adapter(make_context(tmp_path, recorder), inputs, settings_of(batch_size=4))
    assert [e.get("step") for e in recorder.named("MemoryRecovered")] == [4]
    assert factor(tmp_path / "checkpoints/step-000006") == 2.0**9


def test_a_resumed_run_goes_on_with_the_factor_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved in step 2 and put back after a stop: the same losses, the same rate of each step."""
    inputs = scaled_float16(tmp_path, monkeypatch, lambda step: step == 2, dropout=0.1)
    settings = settings_of(max_steps=8, lr_scheduler="linear")
    whole, first, second = Recorder(), Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= 4), inputs, settings
        )
    assert factor(tmp_path / "b/checkpoints/step-000004") == 2.0**9
    train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert first.losses() + second.losses() == whole.losses()
    rates = [[e.get("learning_rate") for e in r.named("Metric")] for r in (whole, first, second)]
    assert rates[1] + rates[2] == rates[0]
    assert rates[0][1] == rates[0][2]  # the left out step did not use up its rate
