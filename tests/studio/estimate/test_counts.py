"""Parameter counts: published totals, and to the last digit what PEFT counts.

The reference is ``get_peft_model`` on the model that transformers builds on the meta device.
"""

from __future__ import annotations

from typing import Any

import pytest

from studio.estimate import trainable
from studio.estimate.optimizers import PAGED_FROM, state_bytes, states
from studio.estimate.trainable import count, matched, rank_for
from studio.estimate.work import operations_per_token
from studio.graph.registry import load_registry
from studio.model.families import FAMILIES
from studio.model.layers import TOWERS, resolve_targets
from studio.model.read_shape import shape_of_config
from studio.model.shapes import Shape
from studio.values import AdaptedModelValue
from tests.studio.estimate.architectures import ARCHITECTURES, Config, meta_model, shortened

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def known_shape(config: Config) -> Shape:
    shape = shape_of_config(config)
    assert shape is not None
    return shape


def peft_counts(config: Config, peft_config: Any, layers: int | None = None) -> tuple[int, int]:
    from peft import get_peft_model

    if "vision_config" in config:
        peft_config.exclude_modules = rf"(?:.*\.)?(?:{'|'.join(TOWERS)})\..*"
    model = get_peft_model(meta_model(config, layers), peft_config)
    trained, total = model.get_nb_trainable_parameters()
    return int(trained), int(total)


def our_counts(shape: Shape, wanted: str, r: int, method: str = "lora", **more: Any) -> Any:
    names, wrong = resolve_targets(shape.modules(), wanted)
    assert not wrong
    return count(shape, method, matched(shape, names, rank_for(r, None)), **more)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_total_parameters_are_the_published_ones(name: str) -> None:
    config, published = ARCHITECTURES[name]
    assert known_shape(config).parameters == published


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_config_that_names_only_its_architecture_takes_its_defaults(model_type: str) -> None:
    expected = sum(p.numel() for p in meta_model({"model_type": model_type}).parameters())
    assert known_shape({"model_type": model_type}).parameters == expected


def test_a_label_costs_forward_and_backward_through_the_head() -> None:
    """Two operations for each weight of the head in either pass; a full fine-tuning also computes the
    gradient of the head."""
    shape = known_shape(ARCHITECTURES["Llama-3.2-1B"][0])
    head = shape.hidden * shape.vocabulary
    for full, each in ((False, 4), (True, 6)):
        none, all_ = (operations_per_token(shape, 0, 100, n, full=full) for n in (0.0, 1.0))
        assert all_ - none == pytest.approx(each * head)


def test_paged_states_lie_in_main_memory() -> None:
    """They take no memory of a GPU; without one they take as much as those that are not paged."""
    for paged, plain in (("paged_adamw", "adamw"), ("paged_adamw_8bit", "adamw_8bit")):
        assert state_bytes(paged, "cuda") == 0
        assert state_bytes(paged, "cpu") == state_bytes(plain, "cpu")


@pytest.mark.parametrize(("r", "limit"), [(8, PAGED_FROM), (32, PAGED_FROM), (8, 8 * 2048)])
def test_small_tensors_are_not_paged(r: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As bitsandbytes decides for each of PEFT's tensors, of which the third case has some of exactly the size
    from which they are paged. Of 8-bit states the scales are never paged."""
    import torch
    from peft import LoraConfig, get_peft_model

    from studio.training.estimate.dry_run import meta_model

    config = shortened(ARCHITECTURES["Llama-3.2-1B"][0], 2)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), "all-linear")
    lora = LoraConfig(r=r, target_modules=names, task_type="CAUSAL_LM")
    with torch.device("meta"):
        model = get_peft_model(meta_model(config, torch.float32), lora)
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    counted = count(shape, "lora", matched(shape, names, rank_for(r, None)))
    monkeypatch.setattr(trainable, "PAGED_FROM", limit)
    small = sum(n for n in sizes if n < limit)
    assert counted.small == small
    assert small == sum(sizes) if (r, limit) == (8, PAGED_FROM) else 0 < small < sum(sizes)
    assert states("paged_adamw", "cuda", sum(sizes), small) == 8 * small
    scales = 2 * 4 / 256 * (sum(sizes) - small)
    assert states("paged_adamw_8bit", "cuda", sum(sizes), small) == pytest.approx(
        (2 + 2 * 4 / 256) * small + scales
    )
    assert states("paged_adamw", "cpu", sum(sizes), small) == 8 * sum(sizes)
    assert states("adamw", "cuda", sum(sizes), small) == 8 * sum(sizes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_linear_equals_peft(name: str) -> None:
    from peft import LoraConfig

    config, _ = ARCHITECTURES[name]
    if "moe" in config["model_type"]:  # PEFT takes ten seconds for all 48 layers
        config = shortened(config, 4)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), "all-linear")
    ours = our_counts(shape, "all-linear", 16)
    theirs = peft_counts(config, LoraConfig(r=16, target_modules=names, task_type="CAUSAL_LM"))
    assert (ours.trainable, ours.total(shape)) == theirs


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("wanted", "r", "bias"), [("q,v", 64, "none"), ("attention", 5, "all")])
def test_fewer_targets_equal_peft(name: str, wanted: str, r: int, bias: str) -> None:
    from peft import LoraConfig

    config = shortened(ARCHITECTURES[name][0], 2)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), wanted)
    ours = our_counts(shape, wanted, r, bias=bias)
    peft_config = LoraConfig(r=r, target_modules=names, bias=bias, task_type="CAUSAL_LM")
    assert (ours.trainable, ours.total(shape)) == peft_counts(config, peft_config)


def test_the_number_of_the_issue() -> None:
    shape = known_shape(ARCHITECTURES["Mistral-7B"][0])
    assert our_counts(shape, "q_proj,k_proj,v_proj,o_proj", 16).trainable == 13_631_488


def test_ranks_by_layer_equal_peft() -> None:
    from peft import LoraConfig

    config = shortened(ARCHITECTURES["Llama-3.2-1B"][0], 3)
    shape = known_shape(config)
    pattern = {"layers.1.self_attn.q_proj": 3, "down_proj": 32}
    names, _ = resolve_targets(shape.modules(), "all-linear")
    ours = count(shape, "lora", matched(shape, names, rank_for(8, pattern)))
    theirs = LoraConfig(r=8, target_modules=names, rank_pattern=pattern, task_type="CAUSAL_LM")
    assert (ours.trainable, ours.total(shape)) == peft_counts(config, theirs)


def test_whole_layers_that_are_trained_beside_the_adapter_equal_peft() -> None:
    from peft import LoraConfig

    config = shortened(ARCHITECTURES["Mistral-7B"][0], 2)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), "q,v")
    saved = ["embed_tokens", "lm_head"]
    ours = count(shape, "lora", matched(shape, names, rank_for(8, None)), saved=saved)
    theirs = LoraConfig(r=8, target_modules=names, modules_to_save=saved, task_type="CAUSAL_LM")
    assert (ours.trainable, ours.total(shape)) == peft_counts(config, theirs)


@pytest.mark.parametrize("architecture", ["Llama-3.2-1B", "Mistral-7B"])
def test_tokens_that_are_trained_beside_the_adapter_equal_peft(architecture: str) -> None:
    """Tied and not."""
    from peft import LoraConfig

    config = shortened(ARCHITECTURES[architecture][0], 2)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), "q,v")
    ours = count(shape, "lora", matched(shape, names, rank_for(8, None)), tokens=3)
    theirs = LoraConfig(
        r=8, target_modules=names, trainable_token_indices=[1, 2, 9], task_type="CAUSAL_LM"
    )
    assert (ours.trainable, ours.total(shape)) == peft_counts(config, theirs)


@pytest.mark.parametrize("architecture", ["Llama-3.2-1B", "OPT-1.3B"])
def test_methods_with_a_formula_equal_peft(architecture: str) -> None:
    from studio.estimate.formulas import FORMULAS

    config = shortened(ARCHITECTURES[architecture][0], 2)
    shape = known_shape(config)
    names, _ = resolve_targets(shape.modules(), "all-linear")
    methods = load_registry().variants["adapter"]
    # aLoRA needs a tokenizer, the others real weights: tests/studio/training/test_methods.py
    elsewhere = ("alora", "tinylora", "shira", "monteclora")
    known = [m for m in methods if m in FORMULAS and m not in elsewhere]
    assert {"lora", "rslora", "dora"} <= set(known)
    for method in known:
        settings = methods[method].settings().model_dump()
        value = adapted(method, names, settings)
        ours = our_counts(shape, "all-linear", value.r, method, settings=settings)
        made = methods[method].payload.build(value)
        if hasattr(made, "init_lora_weights"):  # what some begin with needs data or real weights
            made.init_lora_weights = True
        theirs = peft_counts(config, made)
        assert (ours.trainable, ours.total(shape)) == theirs, method


def adapted(method: str, names: list[str], settings: dict[str, Any]) -> AdaptedModelValue:
    model = {"path": "", "source": "", "dtype": "bfloat16", "weights_sha256": "", "parameters": 0}
    return AdaptedModelValue.model_validate(
        {
            "model": model,
            "method": method,
            "r": 8,
            "alpha": 16,
            "dropout": 0.0,
            "bias": "none",
            "target_modules": names,
            "method_settings": settings,
        }
    )


def test_a_method_without_formula_is_unknown_not_guessed() -> None:
    shape = known_shape(ARCHITECTURES["GPT-2"][0])
    counted = our_counts(shape, "all-linear", 8, "somebody's own method")
    assert counted.trainable is None
    assert counted.total(shape) is None


def test_unequal_layers_are_left_to_the_meta_device() -> None:
    config = {**ARCHITECTURES["Qwen3-30B-A3B"][0], "mlp_only_layers": [0]}
    assert shape_of_config(config) is None
