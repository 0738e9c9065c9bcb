"""What is on disk is what was trained, or the run fails and says by how much."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from studio.errors import StudioError
from studio.training.adapter import trainable as trainable_module
from studio.training.adapter import verify
from studio.training.adapter.verify import tolerance
from studio.training.loop.train import train_adapter
from studio.training.loop.training_loop import TrainingLoop
from tests.studio.training.methods import each, trained
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_the_reloaded_adapter_gives_the_trained_logits(
    tmp_path: Path, method: str, dtype: str
) -> None:
    """Every method, in both precisions, to the last bit on one machine."""
    inputs = make_inputs(tmp_path, method=method)
    inputs["model"]["model"]["dtype"] = dtype
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    assert value.reload_difference <= 1e-6
    assert value.metrics["loss"] > 0


def test_plain_peft_loads_the_adapter(tmp_path: Path, quiet_transformers: None) -> None:
    """Weights, config, tokenizer and chat template; the base's path is there, no embeddings."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recorder = Recorder()
    value = train_adapter(
        make_context(tmp_path, recorder), make_inputs(tmp_path), settings_of(max_steps=2)
    )
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    PeftModel.from_pretrained(base, value.path)
    assert "im_start" in AutoTokenizer.from_pretrained(value.path).chat_template
    config = json.loads((Path(value.path) / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(tmp_path / "model")
    assert [p.name for p in Path(value.path).parent.iterdir()] == ["adapter"]
    weights = Path(value.path) / "adapter_model.safetensors"
    assert all(".lora_" in name for name in load_file(weights))
    modes = {p.stat().st_mode for p in Path(value.path).iterdir()}
    assert len(modes) == 1, "others may read the weights where they may read the config"


def test_a_hub_base_is_named_by_id_and_commit(tmp_path: Path) -> None:
    """Not by a path of this machine."""
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(source="someone/model", revision="c" * 40)
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=2))
    config = json.loads((Path(value.path) / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/model", "c" * 40)


def test_a_damaged_adapter_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight lost between training and disk: the sentence says how far the logits are off."""
    real = trainable_module.write_adapter

    def lossy(tuning: Any, tokenizer: Any, folder: Path) -> None:
        real(tuning, tokenizer, folder)
        file = folder / "adapter_model.safetensors"
        weights = load_file(file)
        save_file({k: v * 0 if "layers.1" in k else v for k, v in weights.items()}, file)

    monkeypatch.setattr(trainable_module, "write_adapter", lossy)
    with pytest.raises(StudioError, match=r"logits differ by \d") as caught:
        train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings_of())
    assert caught.value.code == "reload_mismatch"


def test_the_trained_model_is_gone_before_the_fresh_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verification must not double the memory: nothing holds the trained model any more."""
    from peft import PeftModel

    real, alive = trainable_module.ADAPTER, []

    def counting(*args: Any) -> float:
        alive.append([o for o in gc.get_objects() if isinstance(o, PeftModel)])
        return real.verify(*args)

    monkeypatch.setattr(trainable_module, "ADAPTER", replace(real, verify=counting))
    inputs = make_inputs(tmp_path, 20, 4)
    train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    assert alive == [[]]


def test_an_adapter_that_did_not_move_is_refused(tmp_path: Path) -> None:
    """Steps too small for float32 to hold: nothing was learned, and the run says so."""
    settings = settings_of(max_steps=2, learning_rate=1e-60, optimizer="sgd", max_grad_norm=1.0)
    with pytest.raises(StudioError, match="did not change the adapter") as caught:
        train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings)
    assert caught.value.code == "adapter_unmoved"


def test_a_loss_that_is_not_a_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is named, and the last checkpoint is from before it."""
    real = TrainingLoop.forward_backward
    passes: list[None] = []

    def forward_backward(self: Any, *arguments: Any, **named: Any) -> Any:
        loss, penalty = real(self, *arguments, **named)
        passes.append(None)
        return (loss * float("inf") if len(passes) == 4 else loss), penalty

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    settings = settings_of(max_steps=8, save_steps=1)
    recorder = Recorder()
    with pytest.raises(
        StudioError, match=r"the loss of step 4 is not finite \((nan|inf)\)"
    ) as caught:
        train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    assert caught.value.code == "loss_not_finite"
    last = recorder.named("CheckpointSaved")[-1]
    assert last.get("step") == 3
    weights = load_file(Path(last.get("path")) / "adapter_model.safetensors")
    assert all(bool(w.isfinite().all()) for w in weights.values())


def test_tolerance_grows_with_half_precision_only() -> None:
    """float32 has a fixed limit; bfloat16 carries eight bits of a logit."""
    assert tolerance("float32", 30.0) == 1e-3
    assert tolerance("bfloat16", 30.0) == pytest.approx(2 * 2**-7 * 30)


@pytest.mark.parametrize(
    ("method", "share"),
    each([("lora", 2), ("mica", 2), ("adalora", 8), ("pissa", 8), ("psoft", 8)]),
)
def test_an_adapter_whose_sums_are_reordered_may_round_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, share: int
) -> None:
    """Saved as a plain LoRA it rounds otherwise, which 30 layers in bfloat16 make large: PSOFT on
    SmolLM2 came back within 1.2 of logits up to 41, and within 0.001 in float32."""
    allowed: list[tuple[float, float]] = []
    real = verify.tolerance

    def looking(dtype: str, largest: float, rewritten: bool = False) -> float:
        allowed.append((real(dtype, largest, rewritten), largest))
        return allowed[-1][0]

    monkeypatch.setattr(verify, "tolerance", looking)
    trained(monkeypatch, tmp_path, method, "bfloat16", steps=3)
    ((limit, largest),) = allowed
    assert limit == pytest.approx(share * 2**-7 * largest)
