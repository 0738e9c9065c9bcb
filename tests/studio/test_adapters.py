"""LoRA methods: each file builds its PEFT config, and the LoRA step matches real layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.adapters.configure import check_method, describe
from studio.errors import StudioError
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.lora import LoraSettings
from studio.node_settings.train import TrainSettings
from studio.nodes import train
from studio.values import AdaptedModelValue
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.tiny import make_tiny_model


def described(tmp_path: Path, **settings: object) -> AdaptedModelValue:
    """What the LoRA step hands on for the tiny model."""
    model = model_value(make_tiny_model(tmp_path / "model"))
    context = make_context(tmp_path, Recorder())
    return describe(context, model.to_json(), LoraSettings(**settings))


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("q,v", {"q_proj", "v_proj"}),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (["mlp.up_proj", "down_proj"], {"mlp.up_proj", "down_proj"}),
        ("up_proj, q_proj", {"up_proj", "q_proj"}),
    ],
)
def test_targets_are_resolved(tmp_path: Path, wanted: object, names: set[str]) -> None:
    """Presets, lists, and names separated by commas."""
    assert set(described(tmp_path, target_modules=wanted).target_modules) == names


def test_all_linear_is_every_layer_but_the_head(tmp_path: Path) -> None:
    """Seven names; neither lm_head nor the embedding."""
    names = described(tmp_path, target_modules="all-linear").target_modules
    assert len(names) == 7
    assert not {"lm_head", "embed_tokens"} & set(names)


@pytest.mark.parametrize("wrong", ["q_project", "layernorm", "gate"])
def test_a_wrong_target_ends_the_step(tmp_path: Path, wrong: str) -> None:
    """One sentence with node, field and the real names."""
    with pytest.raises(StudioError, match=f"“{wrong}” matches no linear layer") as caught:
        described(tmp_path, target_modules=["v_proj", wrong])
    error = caught.value
    assert (error.node, error.field, error.code) == ("train", "target_modules", "unknown_target")
    assert "q_proj" in error.hint


def test_every_method_builds_its_config(tmp_path: Path) -> None:
    """The settings reach PEFT; rsLoRA and DoRA switch theirs on."""
    value = described(tmp_path, r=8, alpha=32, dropout=0.1)
    methods = load_registry().variants["adapter"]
    configs = {name: methods[name].payload.build(value) for name in ("lora", "rslora", "dora")}
    for config in configs.values():
        assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 32, 0.1)
        assert set(config.target_modules) == set(value.target_modules)
        assert config.task_type == "CAUSAL_LM"
    switched = {n: (bool(c.use_rslora), bool(c.use_dora)) for n, c in configs.items()}
    assert switched == {"lora": (False, False), "rslora": (True, False), "dora": (False, True)}


def test_a_method_that_does_not_train_on_a_quantized_base_is_a_problem(tmp_path: Path) -> None:
    """Before the run, on the LoRA node's method."""
    base = {"base": ("base_model", BaseModelSettings(quantization="int8"))}
    context = CheckContext(
        "lora", "LoRA", tmp_path, upstream=base, variants=load_registry().variants
    )
    (found,) = check_method(LoraSettings(method="dora"), context)
    assert (found.node, found.field, found.code) == ("lora", "method", "method_quantization")
    assert list(check_method(LoraSettings(method="lora"), context)) == []


def test_cadences_that_lead_nowhere_are_warned_of(tmp_path: Path) -> None:
    """No validation rows, or a checkpoint later than the end; the run may still start."""
    data = {"data": ("dataset", DatasetSettings(source="x", validation_fraction=0.0))}
    context = CheckContext("train", "Train", tmp_path, upstream=data)
    found = list(train.check(TrainSettings(eval_steps=5, max_steps=10, save_steps=20), context))
    assert [p.field for p in found] == ["eval_steps", "save_steps"]
    assert not any(p.blocks for p in found)


@pytest.mark.parametrize(
    ("method", "rate", "said"),
    [
        (
            "adalora",
            2e-4,
            "AdaLoRA hardly learns at a learning rate of 2e-4; 5e-4 to 1e-2 is usual",
        ),
        ("adalora", 1e-3, ""),
        ("adalora", 0.1, "AdaLoRA may diverge at a learning rate of 0.1"),
        ("lora", 2e-4, ""),
        ("lora", 3e-3, ""),  # outside of the range, but not far
        ("lora", 1e-2, "LoRA may diverge at a learning rate of 1e-2"),
        ("lora", 1e-6, "LoRA hardly learns"),
        ("waveft", 0.5, ""),  # nothing is known
        ("gone", 0.5, ""),
    ],
)
def test_a_rate_far_from_the_methods_own_is_warned_of(
    tmp_path: Path, method: str, rate: float, said: str
) -> None:
    context = CheckContext(
        "train",
        "Train",
        tmp_path,
        inputs={"model": ("lora", LoraSettings(method=method))},
        variants=load_registry().variants,
    )
    found = [p for p in train.check(TrainSettings(learning_rate=rate), context) if p.field]
    assert [(p.field, p.code, p.blocks) for p in found] == (
        [("learning_rate", "rate_for_method", False)] if said else []
    )
    assert all(said in p.sentence for p in found)


def test_every_range_of_rates_is_in_order() -> None:
    for variant in load_registry().choices("adapter"):
        rates = variant.payload.learning_rates
        assert rates is None or 0 < rates[0] < rates[1] < rates[2] <= 1, variant.id


def test_biases_are_not_trained_in_float16() -> None:
    """Their gradients could not be scaled; said before anything is loaded."""
    context = CheckContext(
        "lora",
        "LoRA",
        Path(),
        upstream={"base": ("base_model", BaseModelSettings(dtype="float16"))},
        variants=load_registry().variants,
    )
    assert not list(check_method(LoraSettings(), context))
    (problem,) = check_method(LoraSettings(bias="all"), context)
    assert (problem.sentence, problem.field) == (
        "LoRA: biases cannot be trained in float16.",
        "bias",
    )
    (problem,) = check_method(LoraSettings(modules_to_save="lm_head"), context)
    assert (problem.code, problem.field) == ("saved_dtype", "modules_to_save")
