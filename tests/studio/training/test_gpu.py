"""On an NVIDIA GPU: every precision and quantization trains, resumes, reloads and merges.

Skipped where there is none. Nothing here is compared with the CPU: only a GPU with itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from studio.errors import Stopped
from studio.node_settings.merge import MergeSettings
from studio.training.loop.train import train_adapter, train_model
from studio.training.merge import check as merge_check
from studio.training.merge.make import merge_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:MatMul8bitLt"),
]
CASES = [
    ("float32", "none"),
    ("bfloat16", "none"),
    ("float16", "none"),
    ("bfloat16", "nf4"),
    ("float16", "nf4"),
    ("bfloat16", "int8"),
    ("float16", "int8"),
]


@pytest.mark.parametrize(("dtype", "quantization"), CASES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_on_the_gpu(
    tmp_path: Path, dtype: str, quantization: str, checkpointing: bool
) -> None:
    """The loss falls, memory is read, a resume ends where it should, and the adapter merges."""
    inputs = make_inputs(tmp_path, 20, 4)
    inputs["model"]["model"].update(quantization=quantization, dtype=dtype, parameters=10**5)
    settings = settings_of(
        max_steps=12,
        save_steps=6,
        eval_steps=4,
        gradient_checkpointing=checkpointing,
        gradient_accumulation_steps=2,
        max_grad_norm=0.0 if checkpointing else 1.0,
    )
    told = Recorder()
    value = train_adapter(make_context(tmp_path, told), inputs, settings)
    losses = told.losses()
    assert sum(losses[-4:]) < sum(losses[:4])
    assert all(e.get("vram_allocated_gib") > 0 for e in told.named("Metric") if e.get("loss"))
    again = Recorder()
    train_adapter(make_context(tmp_path, again), inputs, settings)
    assert [e.get("step") for e in again.named("TrainResumed")] == [12]
    merge_adapter(make_context(tmp_path / "merge", Recorder()), value.to_json(), MergeSettings())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rows_without_padding_train_as_padded_ones(tmp_path: Path, dtype: str) -> None:
    """In half precision with the kernel for variable lengths."""
    inputs = make_inputs(tmp_path, 8)
    inputs["model"]["model"]["dtype"] = dtype
    common = {"max_steps": 3, "batch_size": 8, "learning_rate": 1e-4}
    padding_free, padded = Recorder(), Recorder()
    settings = settings_of(**common, batching="padding_free")
    train_adapter(make_context(tmp_path / "padding_free", padding_free), inputs, settings)
    train_adapter(make_context(tmp_path / "padded", padded), inputs, settings_of(**common))
    assert not any("Rows are padded" in e.get("sentence") for e in padding_free.named("Notice"))
    assert padding_free.losses() == pytest.approx(
        padded.losses(), rel=1e-4 if dtype == "float32" else 2e-2
    )


def test_a_resume_in_the_middle_goes_on(tmp_path: Path) -> None:
    """Optimizer, scaler and random numbers come back onto the GPU."""
    inputs = make_inputs(tmp_path, dropout=0.1)
    inputs["model"]["model"]["dtype"] = "float16"
    settings = settings_of(max_steps=8, save_steps=4)
    told, again = Recorder(), Recorder()

    def stop() -> bool:
        return any(e.get("step") == 5 for e in told.named("Metric"))

    with pytest.raises(Stopped):
        train_adapter(make_context(tmp_path, told, stop=stop), inputs, settings)
    train_adapter(make_context(tmp_path, again), inputs, settings)
    assert [e.get("step") for e in again.named("TrainResumed")] == [5]
    assert len(again.losses()) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_full_fine_tuning(tmp_path: Path, dtype: str) -> None:
    """Trained in float32 with the fused optimizer, stored in the model's precision, stopped once."""
    inputs = make_inputs(tmp_path, 20, 4)
    inputs["model"] = {**inputs["model"]["model"], "dtype": dtype}
    settings = settings_of(
        max_steps=12, learning_rate=3e-3, optimizer="adamw_fused", eval_steps=4, keep="best"
    )
    told, again = Recorder(), Recorder()
    with pytest.raises(Stopped):
        train_model(make_context(tmp_path, told, lambda: len(told.losses()) >= 6), inputs, settings)
    value = train_model(make_context(tmp_path, again), inputs, settings)
    losses = told.losses() + again.losses()
    assert len(losses) == 12
    assert sum(losses[-4:]) < sum(losses[:4])
    assert value.dtype == dtype


def test_a_merge_that_the_gpu_cannot_hold_is_compared_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a training in 4 bits on a small card."""
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization="nf4", dtype="bfloat16")
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    monkeypatch.setattr(merge_check, "_place", lambda merged: (torch.device("cpu"), "float32"))
    monkeypatch.setattr(merge_check, "roomy_device", lambda merged: torch.device("cpu"))
    merge_adapter(make_context(tmp_path / "merge", Recorder()), value.to_json(), MergeSettings())
