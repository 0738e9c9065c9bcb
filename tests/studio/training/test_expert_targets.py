"""Adapters on the experts of a mixture: exactly the blocks that were chosen, as plain PEFT loads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.adapters.configure import describe
from studio.errors import StudioError
from studio.estimate.trainable import count, matched, rank_for
from studio.model.layers import read_linear_modules
from studio.model.read_shape import read_shape, shape_of_config
from studio.model.targets import choose
from studio.node_settings.lora import LoraSettings
from studio.node_settings.merge import MergeSettings
from studio.training.adapter.experts import name_experts
from studio.training.loop.train import train_adapter
from studio.training.merge.make import merge_adapter
from studio.values import AdaptedModelValue, AdapterValue, ModelValue
from studio.variants.lora_method import lora_config
from tests.studio.estimate.architectures import ARCHITECTURES, meta_model, shortened
from tests.studio.training.adapters import SHAPE, logits, plain_adapted, plain_model, save_family
from tests.studio.training.methods import each
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)

pytestmark = pytest.mark.usefixtures("quiet_transformers")

_MIXTURE = {**SHAPE, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("MixtralConfig", {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {
            **_MIXTURE,
            "num_experts": 4,
            "shared_expert_intermediate_size": 24,
            "mlp_only_layers": [0],
        },
    ),
    "qwen3_moe": ("Qwen3MoeConfig", {**_MIXTURE, "head_dim": 8, "num_experts": 4}),
    "phimoe": ("PhimoeConfig", {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4": (
        "Llama4TextConfig",
        {
            **SHAPE,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 48,
            "head_dim": 8,
        },
    ),
    "gpt_oss": (
        "GptOssConfig",
        {
            **SHAPE,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        {
            **_MIXTURE,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
        },
    ),
}


def make_model(folder: Path, family: str) -> Path:
    return save_family(folder, *FAMILIES[family])


def trained(
    root: Path, family: str, steps: int = 2, recorder: Recorder | None = None, **settings: Any
) -> AdapterValue:
    """The LoRA node's settings on a tiny mixture, and a short training."""
    context = make_context(root, recorder or Recorder())
    model = model_value(make_model(root / "model", family))
    lora = LoraSettings(**{"r": 4, "alpha": 8, **settings})
    adapted = describe(context, model.to_json(), lora)
    inputs = {"dataset": dataset_value(root / "data", 12).to_json(), "model": adapted.to_json()}
    return train_adapter(context, inputs, settings_of(max_steps=steps, learning_rate=1e-2))


def changed(value: AdapterValue) -> set[str]:
    """The base's weights that the adapter changes, as plain PEFT merges them."""
    before = dict(plain_model(value.model.model.path).named_parameters())
    after = dict(plain_adapted(value).merge_and_unload().named_parameters())
    return {n for n, p in before.items() if not torch.equal(p, after[n])}


EXPERTS = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}
BESIDE = {f"mlp.shared_expert.{n}_proj.weight" for n in ("gate", "up", "down")}
DENSE = {f"mlp.{n}_proj.weight" for n in ("gate", "up", "down")}


def block(number: int, names: set[str]) -> set[str]:
    return {f"model.layers.{number}.{n}" for n in names}


QKVO = {f"self_attn.{n}_proj.weight" for n in "qkvo"}


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("mixtral", {"target_modules": ["w1", "w2", "w3"], "layers": "1"}, block(1, EXPERTS)),
        ("qwen3_moe", {"layers": "0"}, block(0, QKVO | EXPERTS)),
        (
            "qwen3_moe",
            {"target_modules": r"re:.*\.1\.mlp\.experts\.down_proj"},
            block(1, {"mlp.experts.down_proj"}),
        ),
        ("qwen2_moe", {}, block(0, QKVO | DENSE) | block(1, QKVO | EXPERTS | BESIDE)),
        (
            "llama4",
            {"target_modules": "experts.down_proj, o_proj", "layers": "1"},
            block(1, {"feed_forward.experts.down_proj", "self_attn.o_proj.weight"}),
        ),
        ("gpt_oss", {"layers": "0"}, block(0, QKVO | EXPERTS)),
        ("phimoe", {"target_modules": "all-linear", "layers": "1"}, block(1, QKVO | EXPERTS)),
        (
            "qwen2_moe",
            {"target_modules": "experts.gate_up_proj"},
            block(1, {"mlp.experts.gate_up_proj"}),
        ),
        ("qwen2_moe", {"target_modules": "re:.*shared_expert.*"}, block(1, BESIDE)),
        (
            "deepseek_v3",
            {"target_modules": "gate_proj,up_proj,down_proj"},
            block(0, DENSE)
            | block(1, EXPERTS)
            | block(1, {n.replace("expert.", "experts.") for n in BESIDE}),
        ),
        (
            "deepseek_v3",
            {"target_modules": "shared_experts.down_proj"},
            block(1, {"mlp.shared_experts.down_proj.weight"}),
        ),
    ],
)
def test_exactly_the_chosen_weights_change(
    tmp_path: Path, family: str, settings: dict[str, Any], expected: set[str]
) -> None:
    """PEFT 0.21 by itself takes all blocks for one, none for some families, and a shared expert for a
    joined one."""
    value = trained(tmp_path, family, **settings)
    assert value.reload_difference <= 1e-5
    assert changed(value) == expected
    saved = json.loads((Path(value.path) / "adapter_config.json").read_text(encoding="utf-8"))
    assert len(saved["target_parameters"] or ()) == len(
        [n for n in expected if "experts" in n or (family == "deepseek_v3" and "mlp" in n)]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_and_alphas_of_experts(tmp_path: Path, family: str) -> None:
    """A rank of an expert is that of one matrix: gate and up, joined, have twice as many directions,
    and the same scale."""
    ranks = "experts.gate_up_proj=2, experts.down_proj=3, q_proj=5"
    names = "q_proj" if family != "deepseek_v3" else "q_a_proj"
    value = trained(
        tmp_path,
        family,
        target_modules=f"{names}, experts.gate_up_proj, experts.down_proj",
        rank_pattern=ranks.replace("q_proj", names),
        alpha_pattern="experts.gate_up_proj=6",
    )
    model = plain_adapted(value)
    found = {
        type_name: (module.r["default"], module.scaling["default"])
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
        for type_name in [getattr(module, "parameter_name", name.rpartition(".")[2])]
    }
    assert found == {"gate_up_proj": (4, 3.0), "down_proj": (3, 8 / 3), names: (5, 8 / 5)}
    context = make_context(tmp_path / "merge", Recorder())
    merged = plain_model(merge_adapter(context, value.to_json(), MergeSettings()).path)
    assert float((logits(merged) - logits(model)).abs().max()) < 1e-5


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen2_moe", "gpt_oss"])
def test_every_linear_layer_of_a_mixture_merges(tmp_path: Path, family: str) -> None:
    """Joined experts, shared ones and dense blocks."""
    value = trained(tmp_path, family)
    context = make_context(tmp_path / "merge", Recorder())
    merged = plain_model(merge_adapter(context, value.to_json(), MergeSettings()).path)
    assert float((logits(merged) - logits(plain_adapted(value))).abs().max()) < 1e-5


@pytest.mark.parametrize("family", ["llama4", "gpt_oss"])
def test_experts_that_are_joined_in_the_file_too(tmp_path: Path, family: str) -> None:
    """Their weights are stored as (experts, in, out)."""
    modules = read_linear_modules(make_model(tmp_path / "model", family)) or []
    found = {m.name.rpartition(".")[2]: m for m in modules if m.kind == "expert"}
    up, down = found["gate_up_proj"], found["down_proj"]
    assert (up.width_in, up.width_out, up.experts, up.parameters) == (32, 96, 4, 4 * 32 * 96)
    assert (down.width_in, down.width_out, down.experts) == (48, 32, 4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"layers": "1", "exclude": "experts.down_proj"}])
def test_a_family_without_a_formula_is_counted_from_its_files(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    from peft import get_peft_model

    folder = make_model(tmp_path / "model", family)
    shape = read_shape(folder)
    assert shape is not None
    lora = LoraSettings(r=3, **settings)
    context = make_context(tmp_path, Recorder())
    value = describe(context, model_value(folder).to_json(), lora)
    model = plain_model(folder)
    adapted = get_peft_model(model, name_experts(model, lora_config(value)))
    chosen = choose(shape.modules(), lora, "it")
    assert chosen.errors == []
    ours = count(shape, "lora", matched(shape, chosen.names, rank_for(3, chosen.ranks)))
    assert ours.trainable == adapted.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize("name", ["Mixtral-8x7B", "Qwen3-30B-A3B"])
@pytest.mark.parametrize(
    "settings", [{"layers": "1"}, {"exclude": "experts.down_proj", "rank_pattern": "q_proj=3"}]
)
def test_the_estimate_counts_what_is_trained(name: str, settings: dict[str, Any]) -> None:
    """Real shapes on the meta device."""
    from peft import get_peft_model

    config = shortened(ARCHITECTURES[name][0], 2)
    shape = shape_of_config(config)
    assert shape is not None
    lora = LoraSettings(r=8, **settings)
    chosen = choose(shape.modules(), lora, "it")
    assert chosen.errors == []
    value = AdaptedModelValue(
        model=ModelValue(path="", source="", dtype="bfloat16", weights_sha256="", parameters=0),
        method="lora",
        r=8,
        alpha=16,
        dropout=0.0,
        bias="none",
        target_modules=chosen.names,
        rank_pattern=chosen.ranks,
    )
    model = meta_model(config)
    adapted = get_peft_model(model, name_experts(model, lora_config(value)))
    theirs = adapted.get_nb_trainable_parameters()[0]
    ours = count(shape, "lora", matched(shape, chosen.names, rank_for(8, chosen.ranks)))
    assert ours.trainable == theirs


@pytest.mark.parametrize(
    ("settings", "field", "said"),
    [
        ({"target_modules": "w1"}, "target_modules", "w3 is part of a joined weight"),
        (
            {"target_modules": r"re:.*experts\.[01]\..*"},
            "target_modules",
            "must be trained together",
        ),
        ({"exclude": "w3"}, "exclude", "is part of a joined weight"),
        ({"rank_pattern": "w1=2"}, "rank_pattern", "share one value"),
        ({"target_modules": "experts.gate_proj"}, "target_modules", "matches no linear layer"),
    ],
)
def test_half_of_a_joined_weight_is_refused_before_the_run(
    tmp_path: Path, settings: dict[str, Any], field: str, said: str
) -> None:
    modules = read_linear_modules(make_model(tmp_path / "model", "mixtral"))
    assert modules is not None
    (error, *_) = choose(modules, LoraSettings(**settings), "it").errors
    assert error[0] == field
    assert said in error[1]


def test_a_layer_beside_the_experts_is_refused_in_4_bits(tmp_path: Path) -> None:
    """PEFT adapts it through its weight there, and a packed one cannot be."""
    context = make_context(tmp_path, Recorder())
    model = model_value(make_model(tmp_path / "model", "deepseek_v3"), quantization="nf4")
    adapted = describe(context, model.to_json(), LoraSettings(r=4))
    inputs = {"dataset": dataset_value(tmp_path / "data", 12).to_json(), "model": adapted.to_json()}
    with pytest.raises(StudioError, match="cannot be adapted on a quantized base"):
        train_adapter(context, inputs, settings_of(max_steps=1))


@pytest.mark.parametrize(
    ("method", "own"),
    each(
        [
            ("lora_fa", {}),
            ("riemannian", {}),
            ("rslora", {}),
            ("lora_plus", {}),
            ("lora", {"init": "gaussian"}),
        ]
    ),
)
def test_methods_on_experts_train_reload_and_merge(
    tmp_path: Path, method: str, own: dict[str, Any]
) -> None:
    recorder = Recorder()
    value = trained(
        tmp_path,
        "mixtral",
        steps=8,
        recorder=recorder,
        method=method,
        method_settings=own,
        target_modules="experts.gate_up_proj, experts.down_proj",
    )
    losses = recorder.losses()
    assert losses[-1] < losses[0] - 0.02, losses
    assert value.reload_difference <= 1e-5
    assert changed(value) == block(0, EXPERTS) | block(1, EXPERTS)
    merged = plain_model(
        merge_adapter(
            make_context(tmp_path / "m", Recorder()), value.to_json(), MergeSettings()
        ).path
    )
    assert float((logits(merged) - logits(plain_adapted(value))).abs().max()) < 1e-5


def test_an_orthogonal_start_is_refused_on_experts(tmp_path: Path) -> None:
    """PEFT would crash: there is no weight of two dimensions to ask."""
    with pytest.raises(StudioError, match="do not support the orthogonal initialization") as caught:
        trained(tmp_path, "mixtral", method_settings={"init": "orthogonal"})
    assert caught.value.field == "method_settings.init"


def _joined_layer() -> tuple[Any, Any, Any, Any]:
    """A model with three joined experts under LoRA, the layer, and A and B by expert."""
    from peft import LoraConfig, get_peft_model

    class Experts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3, 5, 6))

        def forward(self, gradient: Any) -> Any:
            return (self.weight * gradient).sum()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = Experts()

        def forward(self, gradient: Any) -> Any:
            return self.experts(gradient)

    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=[], target_parameters=["experts.weight"])
    model = get_peft_model(Model(), config)
    layer = model.base_model.model.experts
    for part in (layer.lora_A, layer.lora_B):
        torch.nn.init.normal_(part["default"].weight)
    a = layer.lora_A["default"].weight.reshape(3, 2, 6)
    b = layer.lora_B["default"].weight.reshape(5, 2, 3).permute(2, 0, 1)
    return model, layer, a.detach(), b.detach()


def test_gradients_of_joined_experts_are_changed_one_expert_at_a_time() -> None:
    """LoRA-FA: s B A is the part of each expert's own gradient that A can reach. Riemannian: the step
    of each expert's W is scaled by its own A and B."""
    from studio.adapters.gradients import precondition_gradients, project_b_gradients

    gradient = torch.randn(3, 5, 6)  # of the loss by W, for each expert: (experts, out, in)
    model, layer, a, b = _joined_layer()
    model(gradient).backward()
    project_b_gradients(model, 1)
    found = layer.lora_B["default"].weight.grad.reshape(5, 2, 3).permute(2, 0, 1)
    for n in range(3):
        reached = gradient[n] @ torch.linalg.pinv(a[n]) @ a[n]
        assert torch.allclose(3.0 * found[n] @ a[n], reached, atol=1e-4)

    model, layer, a, b = _joined_layer()
    model(gradient).backward()
    precondition_gradients(model, 2)
    rows = layer.lora_A["default"].weight.grad.reshape(3, 2, 6)
    columns = layer.lora_B["default"].weight.grad.reshape(5, 2, 3).permute(2, 0, 1)
    for n in range(3):
        assert torch.allclose(
            b[n] @ rows[n], 3.0 * b[n] @ torch.linalg.pinv(b[n]) @ gradient[n], atol=1e-3
        )
        assert torch.allclose(
            columns[n] @ a[n], 3.0 * gradient[n] @ torch.linalg.pinv(a[n]) @ a[n], atol=1e-3
        )
