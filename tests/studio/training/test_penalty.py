"""A method's own term of the loss: once per optimizer step, however many micro-batches it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of


def test_a_penalty_counts_once_per_optimizer_step(tmp_path: Path) -> None:
    """AdaLoRA's: four micro-batches move P and Q as one batch of the same rows, and the loss that is
    shown is that of the rows alone."""
    inputs = make_inputs(tmp_path, method="adalora", method_settings={"target_r": 2})
    moved, losses = [], []
    for rows, accumulation in ((4, 1), (1, 4)):
        root, recorder = tmp_path / f"{rows}", Recorder()
        settings = settings_of(
            batch_size=rows,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            save_steps=2,
            optimizer="sgd",
            learning_rate=0.05,
            max_grad_norm=0.0,
        )
        train_adapter(make_context(root, recorder), inputs, settings)
        losses.append(recorder.losses())
        moved.append(load_file(root / "checkpoints/step-000002/adapter_model.safetensors"))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][0] == pytest.approx(5.56, abs=0.1)  # ln 264: nothing of the penalty in it
    for name, value in moved[0].items():
        torch.testing.assert_close(moved[1][name], value, atol=1e-5, rtol=1e-4)
