"""LoRA methods differ from plain LoRA in the way that their papers say, in numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.estimate.formulas import FORMULAS
from studio.model.shapes import Linear
from studio.node_settings.merge import MergeSettings
from studio.training.adapter.build import build_adapter
from studio.training.loop.optim import build_optimizer
from studio.training.loop.train import train_adapter
from studio.training.merge.make import merge_adapter
from studio.values import AdaptedModelValue, AdapterValue
from tests.studio.training.adapters import logits, plain_adapted, plain_model
from tests.studio.training.methods import (
    METHODS,
    OWN,
    WIDTHS,
    built,
    each,
    facts_of,
    inputs_for,
    layer_of,
    sums,
    train_settings,
    trained,
)
from tests.studio.training.steps import (
    Recorder,
    adapted_value,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model, make_tiny_tokenizer


def test_the_scale_of_rslora_is_alpha_by_the_root_of_r(tmp_path: Path) -> None:
    assert layer_of(built(tmp_path, "lora")).scaling["default"] == 8 / 4
    assert layer_of(built(tmp_path, "rslora")).scaling["default"] == 8 / math.sqrt(4)


def test_dora_begins_with_the_weights_lengths_and_trains_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The magnitude of each output is the norm of its row of W (section 4.1), then it moves."""
    layer = layer_of(built(tmp_path, "dora"))
    norms = layer.get_base_layer().weight.norm(dim=1)
    begun = layer.lora_magnitude_vector["default"].weight
    assert begun.shape == (32,)
    assert begun.allclose(norms, rtol=1e-5)
    found = trained(monkeypatch, tmp_path, "dora", steps=3)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight"
    assert name in found.trainable
    assert (found.weights[name] - norms).abs().min() > 1e-4


def test_lora_plus_gives_b_a_higher_rate(tmp_path: Path) -> None:
    """Two rates in the optimizer, and a first step of Adam whose entries have just these sizes."""
    import torch

    tuning = built(tmp_path, "lora_plus", method_settings={"ratio": 8.0})
    settings = train_settings("lora", learning_rate=1e-3)
    optimizer = build_optimizer(tuning.model, settings, tuning.rate)
    assert sorted(g["lr"] for g in optimizer.param_groups) == pytest.approx([1e-3, 8e-3])
    layer = layer_of(tuning)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    before = a.detach().clone(), b.detach().clone()
    for p in tuning.model.parameters():
        if p.requires_grad:
            p.grad = torch.full_like(p, 0.5)
    optimizer.step()
    assert (before[0] - a).abs().allclose(torch.tensor(1e-3), rtol=1e-3)
    assert (before[1] - b).abs().allclose(torch.tensor(8e-3), rtol=1e-3)


def test_lora_fa_keeps_a_and_projects_the_gradient_of_b(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """s B A moves along the full gradient, as far as A's rows reach (arXiv:2308.03303)."""
    import torch

    found = trained(monkeypatch, tmp_path, "lora_fa", steps=3)
    assert all(".lora_B." in name for name in found.trainable)
    tuning = built(tmp_path / "other", "lora_fa")
    layer = layer_of(tuning)
    a, b, scale = layer.lora_A["default"].weight, layer.lora_B["default"].weight, 2.0
    full = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))  # gradient of W
    b.grad = scale * full @ a.T.detach()
    tuning.before_step(1)
    reached = torch.linalg.lstsq(a.T.detach(), full.T).solution.T @ a  # nearest in A's row space
    assert (scale * b.grad @ a).allclose(reached, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_a_start_from_the_base_changes_nothing_at_first(tmp_path: Path, method: str) -> None:
    """W - s B0 A0 + s B0 A0 is W, though A and B are not zero; PiSSA's are the main directions."""
    import torch

    tuning = built(tmp_path, method)
    assert (
        float((logits(tuning.model) - logits(plain_model(tmp_path / "model"))).abs().max()) < 1e-5
    )
    layer = layer_of(tuning)
    product = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    values = torch.linalg.svdvals(layer.get_base_layer().weight)
    if method == "pissa":
        assert torch.linalg.svdvals(product)[:4].allclose(values[:4], rtol=1e-3)
    else:
        eye = layer.lora_B["default"].weight.T @ layer.lora_B["default"].weight
        assert eye.allclose(torch.eye(4), atol=1e-4)


def test_a_start_is_saved_as_twice_the_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[B, -B0] [A; A0] at the same scale, also for layers with a rank of their own."""
    found = trained(monkeypatch, tmp_path, "pissa", steps=2, rank_pattern={"down_proj": 2})
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    assert config["rank_pattern"] == {"down_proj": 4}
    assert config["init_lora_weights"] is True


def test_adalora_ends_at_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """14 layers of target rank 2: 28 directions are left, and not the same number everywhere."""
    found = trained(monkeypatch, tmp_path, "adalora", steps=10)
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
    ranks = list(config["rank_pattern"].values())
    assert config["peft_type"] == "LORA"
    assert sum(ranks) == 28
    assert len(set(ranks)) > 1


def test_adalora_with_one_step_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudioError, match=r"this training has too few \(1\)") as caught:
        trained(monkeypatch, tmp_path, "adalora", steps=1)
    assert "3 steps" in caught.value.hint
    assert trained(monkeypatch, tmp_path / "three", "adalora", steps=3).losses


def test_adalora_trains_nothing_that_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a half precision base PEFT makes the divisor of its scale trainable, and leaves it out."""
    found = trained(monkeypatch, tmp_path, "adalora", "bfloat16", steps=5)
    assert {n.split(".")[-2] for n in found.trainable} == {"lora_A", "lora_B", "lora_E"}
    assert found.value.reload_difference < 5e-3


def test_eva_moves_rank_between_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some layers get more than r, others less, at the same sum."""
    found = trained(monkeypatch, tmp_path, "eva", steps=1)
    pattern = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )["rank_pattern"]
    ranks = [w.shape[0] for n, w in found.weights.items() if ".lora_A." in n]
    assert pattern
    assert sum(ranks) <= 14 * 4
    assert max(ranks) > 4


def test_loftq_comes_nearer_to_the_unrounded_model(tmp_path: Path) -> None:
    """Before a step is made, its logits are nearer to the base's than those of the 4-bit base."""
    from studio.training.model.load import load_base

    folder = make_tiny_model(tmp_path / "model", hidden=64)
    value = model_value(folder, dtype="float32", quantization="nf4")
    context = make_context(tmp_path, Recorder())
    wanted = logits(plain_model(folder))

    def off(method: str) -> float:
        adapted = AdaptedModelValue.model_validate(
            adapted_value(value, method=method, r=16, alpha=16).to_json()
        )
        model = build_adapter(context, load_base(context, value), adapted, facts_of(tmp_path)).model
        return float((logits(model.eval()) - wanted).norm())

    assert off("loftq") < 0.8 * off("lora")


def test_alora_acts_from_its_phrase_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without the phrase, and what stands before it, are as the base computes them."""
    import torch

    found = trained(monkeypatch, tmp_path, "alora", steps=3)
    adapted, plain = plain_adapted(found.value), plain_model(tmp_path / "model")
    tokenizer = make_tiny_tokenizer()
    text = "<|im_start|>user\ncat?<|im_end|>\n"
    before = len(tokenizer(text)["input_ids"])
    ids = torch.tensor([tokenizer(text + "<|im_start|>assistant\nanimal")["input_ids"]])
    with torch.no_grad():
        moved = (adapted(input_ids=ids).logits - plain(input_ids=ids).logits)[0].abs().amax(-1)
    assert float(moved[:before].max()) == 0.0
    assert float(moved[before:].min()) > 1e-4


@pytest.mark.parametrize(
    ("template", "arguments", "invocation", "start"),
    [
        ("model", "", "", "<|im_start|>assistant\n"),
        ("zephyr", "", "", "<|assistant|>\n"),
        (
            "qwen-3",
            '{"enable_thinking": false}',
            "",
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        ("zephyr", "", "animal", "animal"),
    ],
)
def test_alora_acts_from_the_start_of_an_answer_in_the_chosen_template(
    template: str, arguments: str, invocation: str, start: str, tmp_path: Path
) -> None:
    own = {"invocation": invocation} if invocation else {}
    value = train_adapter(
        make_context(tmp_path, Recorder()),
        make_inputs(tmp_path, method="alora", method_settings=own),
        settings_of(max_steps=1, chat_template=template, chat_template_kwargs=arguments),
    )
    assert isinstance(value, AdapterValue)
    saved = json.loads((Path(value.path) / "adapter_config.json").read_text(encoding="utf-8"))
    tokens = make_tiny_tokenizer()(start, add_special_tokens=False)["input_ids"]
    assert saved["alora_invocation_tokens"] == tokens


COUNTS = {
    "lora": sums(lambda i, o: 4 * (i + o)),
    "dora": sums(lambda i, o: 4 * (i + o) + o),
    "lora_fa": sums(lambda i, o: 4 * o),
    "mica": sums(lambda i, o: 4 * i),
    "adalora": sums(lambda i, o: 4 * (i + o) + 4),
    "loha": sums(lambda i, o: 2 * 4 * (i + o)),
    "vera": sums(lambda i, o: 32 + o),
    "ia3": sums(lambda i, o: o) + 2 * (64 - 32),  # the last feed-forward layer scales its inputs
    "shira": sums(lambda i, o: 4 * (i + o)),
    "fourierft": sums(lambda i, o: 200),
    "hra": sums(lambda i, o: 4 * i),
    "road": sums(lambda i, o: 2 * (o // 2)),
    "tinylora": sums(lambda i, o: 16),
    "miss": sums(lambda i, o: 4 * o),
    "ln_tuning": 5 * 32,
    "monteclora": sums(lambda i, o: 4 * (i + o) + 4 + 4),
    "peanut": sums(lambda i, o: 2 * 4 * o),
    "deft": sums(lambda i, o: 4 * (i + o)),
    "glora": sums(lambda i, o: 2 * 4 * (i + o)),
    "osf": sums(lambda i, o: min(i, o) // 4 * (i + o + 1)),
    "supertuning": sums(lambda i, o: i * o // 20),
    "unilora": 512,
    "adamss": sums(lambda i, o: 3 * 12 + o),
    "beft": sums(lambda i, o: o),
    "bdlora": 2
    * sum(
        4 * i // 2 + 4 * o if n in ("o_proj", "down_proj") else 4 * i + 4 * o // 2
        for n, (i, o) in WIDTHS.items()
    ),
}


@pytest.mark.parametrize("method", each(COUNTS))
def test_trained_parameters_are_what_the_formula_says(tmp_path: Path, method: str) -> None:
    model = built(tmp_path, method).model
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == COUNTS[method]


# Those that begin from data train what LoRA trains, EVA moves rank between layers, and of AdaLoRA
# PEFT counts a number more per layer than is trained here.
COUNTABLE = [
    m
    for m in FORMULAS
    if m not in ("eva", "adalora")
    and not METHODS[m].payload.only_quantized
    and not METHODS[m].payload.hooks.prepare
]


@pytest.mark.parametrize("method", each(COUNTABLE))
def test_the_estimate_counts_what_is_trained(tmp_path: Path, method: str) -> None:
    """Its formulas, summed over the tiny model's layers."""
    model = built(tmp_path, method).model
    counted = 2 * sum(
        FORMULAS[method](Linear(name, *widths), 4, OWN.get(method, {}))
        for name, widths in WIDTHS.items()
    )
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == counted


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "lora_fa"])
def test_single_tokens_are_trained_beside_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Two rows of the embedding move, and those of the head that shares it; merged too."""
    found = trained(monkeypatch, tmp_path, method, steps=3, trained_tokens=[1, 70])
    (name,) = (n for n in found.trainable if "trainable_tokens_delta" in n)
    before = plain_model(tmp_path / "model").get_input_embeddings().weight.detach()
    assert found.weights[name].shape == (2, 32)
    assert float((found.weights[name] - before[[1, 70]]).abs().amax(dim=1).min()) > 1e-4
    assert found.value.reload_difference < 1e-5
    merge = make_context(tmp_path / "merge", Recorder())
    merged = merge_adapter(merge, found.value.to_json(), MergeSettings())
    after = plain_model(merged.path).get_input_embeddings().weight
    moved = (after != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [1, 70]


def test_trained_tokens_have_float32_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 most of their small steps would be rounded away."""
    found = trained(monkeypatch, tmp_path, "lora", "bfloat16", steps=3, trained_tokens=[1])
    (name,) = (n for n in found.trainable if "trainable_tokens_delta" in n)
    assert str(found.weights[name].dtype) == "torch.float32"


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_whole_modules_and_ranks_by_layer_are_trained_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of tied weights and one layer of another rank; the reload check compares them."""
    found = trained(
        monkeypatch,
        tmp_path,
        "lora",
        steps=3,
        rank_pattern={"down_proj": 8},
        alpha_pattern={"down_proj": 32},
        modules_to_save=["lm_head"],
    )
    assert found.value.reload_difference < 1e-5
    assert any("lm_head.modules_to_save" in n for n in found.trainable)
    shapes = {n: w.shape[0] for n, w in found.weights.items() if ".lora_A." in n}
    assert {r for n, r in shapes.items() if "down_proj" in n} == {8}
    assert {r for n, r in shapes.items() if "down_proj" not in n} == {4}
    assert inputs_for(tmp_path, "lora")["model"]["modules_to_save"] == []
