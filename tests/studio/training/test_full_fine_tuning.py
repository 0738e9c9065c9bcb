"""Full fine-tuning: the weights that were chosen move, what is on disk is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from studio.errors import Stopped, StudioError
from studio.model.layer_names import block_number
from studio.training.loop.train import train_model
from studio.values import ModelValue
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.studio.training.test_architectures import FAMILIES
from tests.tiny import make_tiny_model, make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def whole_inputs(root: Path, rows: int = 20, held_out: int = 0, **model: Any) -> dict[str, Any]:
    """A data set and a model without a LoRA node."""
    folder = root / "model"
    if not folder.exists():
        make_tiny_model(folder)
    data = root / "data"
    value = dataset_value(data, rows, held_out) if not data.exists() else None
    if value is None:
        from studio.values import DatasetValue

        value = DatasetValue(
            path=str(data),
            format="messages",
            train_rows=rows,
            validation_rows=held_out,
            sha256="1" * 64,
            sources=[str(data / "rows.jsonl")],
        )
    return {"dataset": value.to_json(), "model": model_value(folder, **model).to_json()}


def trained(
    root: Path, recorder: Recorder | None = None, stop: Any = None, **settings: Any
) -> ModelValue:
    """One full fine-tuning of the tiny model."""
    model = settings.pop("model", {})
    values = {"max_steps": 8, "learning_rate": 1e-3, **settings}
    context = make_context(root, recorder or Recorder(), stop or (lambda: False))
    return train_model(context, whole_inputs(root, **model), settings_of(**values))


def moved(root: Path, value: ModelValue) -> set[str]:
    """Names of the weights that differ from the base's."""
    before = load_file(root / "model" / "model.safetensors")
    after = load_file(Path(value.path) / "model.safetensors")
    assert before.keys() == after.keys()
    return {n for n in before if not torch.equal(before[n].float(), after[n].float())}


def test_everything_learns(tmp_path: Path) -> None:
    """The loss falls, every weight moved, and plain transformers loads the result."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    told = Recorder()
    value = trained(tmp_path, told, model={"held_out": 4}, max_steps=20, learning_rate=3e-3)
    losses = told.losses()
    assert losses[-1] < losses[0] - 0.5
    assert moved(tmp_path, value) == set(load_file(Path(value.path) / "model.safetensors"))
    model, report = AutoModelForCausalLM.from_pretrained(value.path, output_loading_info=True)
    assert not any(report.values())
    assert model.config.use_cache
    assert AutoTokenizer.from_pretrained(value.path).chat_template
    record = value.merged_from[-1]["adapter"]
    assert record["model"]["method"] == "whole"
    assert record["reload_difference"] <= 1e-3


@pytest.mark.parametrize(
    ("layers", "embeddings", "wanted"), [("last 1", False, {1}), ("0", True, {0, None})]
)
def test_frozen_weights_stay(
    tmp_path: Path, layers: str, embeddings: bool, wanted: set[int | None]
) -> None:
    """Only the chosen layers move, and the embedding where it is wanted."""
    value = trained(tmp_path, trained_layers=layers, train_embeddings=embeddings)
    changed = moved(tmp_path, value)
    assert {block_number(n) for n in changed} == wanted
    outside = {n for n in changed if block_number(n) is None}
    assert outside <= {"model.embed_tokens.weight"}


def test_the_part_that_sees_stays_frozen(tmp_path: Path) -> None:
    """Its layers are not counted either: here it has more of them than the text has."""
    name, values = FAMILIES["Gemma3, sees"]
    eye = {**values["vision_config"], "num_hidden_layers": 5}
    config = getattr(transformers, name)(**{**values, "vision_config": eye})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    make_tiny_tokenizer().save_pretrained(tmp_path / "model")
    settings = {"trained_layers": "last 1", "train_embeddings": False, "max_steps": 2}
    changed = moved(tmp_path, trained(tmp_path, **settings))
    assert {block_number(n) for n in changed} == {1}
    assert not any("vision" in n for n in changed)


def test_small_steps_are_not_lost_in_bfloat16(tmp_path: Path) -> None:
    """Steps of 1e-5 are trained in float32 and reach weights that are stored in bfloat16."""
    make_tiny_model(tmp_path / "model", dtype="bfloat16")
    value = trained(tmp_path, learning_rate=3e-5, max_steps=40, model={"dtype": "bfloat16"})
    stored = load_file(Path(value.path) / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert len(moved(tmp_path, value)) > len(stored) / 2
    # Only the weights are rounded before the comparison, not the rotary frequencies: the bits agree.
    assert value.merged_from[-1]["adapter"]["reload_difference"] <= 1e-5


def test_a_resumed_run_ends_the_same(tmp_path: Path) -> None:
    """Stopped in the middle and resumed: the same losses and the same weights, bit by bit."""
    whole = Recorder()
    straight = trained(tmp_path / "straight", whole)
    first = Recorder()
    with pytest.raises(Stopped):
        trained(tmp_path / "cut", first, stop=lambda: len(first.losses()) >= 4)
    second = Recorder()
    value = trained(tmp_path / "cut", second)
    assert second.named("TrainResumed")
    assert first.losses() + second.losses() == whole.losses()
    a, b = (load_file(Path(v.path) / "model.safetensors") for v in (straight, value))
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    """A quantized base, layers that are not there, and a training that changes nothing."""
    with pytest.raises(StudioError, match="does not support full fine-tuning") as caught:
        trained(tmp_path, model={"quantization": "nf4"})
    assert caught.value.code == "whole_quantized"
    with pytest.raises(StudioError, match="the model's 2 layers") as caught:
        trained(tmp_path, trained_layers="7", train_embeddings=False)
    assert caught.value.field == "trained_layers"
    with pytest.raises(StudioError, match="did not change the model"):
        trained(tmp_path, learning_rate=1e-60, optimizer="sgd", max_steps=1)
