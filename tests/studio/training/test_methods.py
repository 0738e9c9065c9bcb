"""LoRA methods differ from plain LoRA in the way that their papers say, in numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from studio.adapters.method import TrainingFacts
from studio.errors import StudioError
from studio.estimate.formulas import FORMULAS
from studio.estimate.shapes import Linear
from studio.node_settings.merge import MergeSettings
from studio.training.adapter.build import build_adapter
from studio.training.adapter.tuning import Tuning
from studio.training.loop.optim import build_optimizer
from studio.training.loop.train import train_adapter
from studio.training.merge.layers import plan_merge
from studio.training.merge.make import merge_adapter
from studio.values import AdaptedModelValue
from tests.studio.training.adapters import logits, plain_adapted, plain_model
from tests.studio.training.methods import METHODS, OWN, inputs_for, train_settings, trained
from tests.studio.training.steps import Recorder, adapted_value, make_context, model_value
from tests.tiny import make_tiny_model, make_tiny_tokenizer

WIDTHS = {  # (in, out) of the tiny model's layers; it has two blocks
    "q_proj": (32, 32),
    "k_proj": (32, 16),
    "v_proj": (32, 16),
    "o_proj": (32, 32),
    "gate_proj": (32, 64),
    "up_proj": (32, 64),
    "down_proj": (64, 32),
}


def built(root: Path, method: str, facts: TrainingFacts | None = None, **adapter: Any) -> Tuning:
    """The tiny model with a fresh adapter of this method."""
    folder = root / "model"
    if not folder.exists():
        make_tiny_model(folder)
    own = {"method_settings": OWN.get(method, {}), **adapter}
    value = adapted_value(model_value(folder), method=method, **own)
    return build_adapter(
        make_context(root, Recorder()), plain_model(folder), value, facts or facts_of(root)
    )


def facts_of(root: Path) -> TrainingFacts:
    """A training of ten steps without rows."""
    del root
    return TrainingFacts(10, [], lambda model, batch: None)


def layer_of(tuning: Tuning) -> Any:
    """The first adapted query projection."""
    return tuning.model.base_model.model.model.layers[0].self_attn.q_proj


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


def test_riemannian_steps_do_not_depend_on_how_a_and_b_share_their_size(tmp_path: Path) -> None:
    """c·A with B / c is the same change, and its preconditioned step the same one (arXiv:2402.02347)."""
    import torch

    def change(c: float) -> Any:
        tuning = built(tmp_path, "riemannian")
        layer = layer_of(tuning)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            a.copy_(c * torch.randn(a.shape, generator=generator))
            b.copy_(torch.randn(b.shape, generator=generator) / c)
        full = torch.randn(32, 32, generator=generator)
        a.grad, b.grad = b.T.detach() @ full, full @ a.T.detach()
        tuning.before_step(1)
        return (b.grad @ a + b @ a.grad).detach()

    assert change(1.0).allclose(change(5.0), rtol=1e-2, atol=1e-2)


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
    config = json.loads((Path(found.value.path) / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    assert config["rank_pattern"] == {"down_proj": 4}
    assert config["init_lora_weights"] is True


def test_adalora_ends_at_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """14 layers of target rank 2: 28 directions are left, and not the same number everywhere."""
    found = trained(monkeypatch, tmp_path, "adalora", steps=10)
    config = json.loads((Path(found.value.path) / "adapter_config.json").read_text())
    ranks = list(config["rank_pattern"].values())
    assert config["peft_type"] == "LORA"
    assert sum(ranks) == 28
    assert len(set(ranks)) > 1


def test_adalora_with_one_step_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudioError, match="this training has only 1") as caught:
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
    pattern = json.loads((Path(found.value.path) / "adapter_config.json").read_text())[
        "rank_pattern"
    ]
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


def test_osf_projects_the_gradient_away_from_what_is_kept(tmp_path: Path) -> None:
    """Neither U nor V of the trained part is pulled towards a strong direction (arXiv:2504.07097)."""
    import torch

    tuning = built(tmp_path, "osf")
    layer = tuning.model.base_model.model.model.layers[0].mlp.down_proj  # (out, in) is (32, 64)
    u, _, v = torch.linalg.svd(layer.get_base_layer().weight, full_matrices=False)
    ids = torch.arange(3, 20)[None]
    tuning.model(input_ids=ids, labels=ids).loss.backward()
    trained = layer.osf_svd_params["default"]
    assert trained["U_low"].shape == (32, 8)  # a quarter of 32 directions
    assert float((u[:, :24].T @ trained["U_low"].grad).abs().max()) < 1e-5
    assert float((trained["V_low"].grad @ v[:24].T).abs().max()) < 1e-5
    assert float(trained["U_low"].grad.abs().max()) > 1e-4


def test_super_tuning_moves_only_the_largest_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in twenty here, and the merged weight differs from the base's there alone."""
    found = trained(monkeypatch, tmp_path, "supertuning", steps=3)
    layer = plain_adapted(found.value).base_model.model.model.layers[1].mlp.up_proj
    base = layer.get_base_layer().weight.detach().clone()
    layer.merge()
    moved = (layer.get_base_layer().weight != base).flatten()
    assert int(moved.sum()) == 32 * 64 // 20
    assert float(base.abs().flatten()[moved].min()) >= float(base.abs().flatten()[~moved].max())


def test_super_tuning_with_a_lora_trains_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"percent": 5.0, "with_lora": True}
    found = trained(monkeypatch, tmp_path, "supertuning", steps=3, method_settings=own)
    kinds = {n.split(".")[-3] if "lora_" in n else n.split(".")[-2] for n in found.trainable}
    assert kinds == {"supertuning_values", "supertuning_lora_A", "supertuning_lora_B"}
    assert found.value.reload_difference < 1e-5
    trained_numbers = sum(found.weights[n].numel() for n in found.trainable)
    assert trained_numbers == sums(lambda i, o: i * o // 20 + 4 * (i + o))


def test_bd_lora_splits_b_of_the_first_layers_and_a_of_the_last(tmp_path: Path) -> None:
    """Two blocks: the change of one half of q_proj's outputs reads only one half of the rank."""
    tuning = built(tmp_path, "bdlora")
    block = tuning.model.base_model.model.model.layers[0]
    query, output = block.self_attn.q_proj, block.self_attn.o_proj
    b = query.lora_B["default"].weight_as_blockdiagonal_matrix()  # (out, r)
    a = output.lora_A["default"].weight_as_blockdiagonal_matrix()  # (r, in)
    assert (b.shape, a.shape) == ((32, 4), (4, 32))
    assert not b[:16, 2:].any()
    assert not a[:2, 16:].any()
    assert a[:2, :16].all()
    assert query.lora_A["default"].weight.shape == (4, 32)  # whole


def test_monteclora_draws_while_it_trains_and_is_lora_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passes over the same tokens differ by the drawn noise; the saved adapter is a plain LoRA."""
    import torch

    tuning = built(tmp_path, "monteclora", method_settings={"spread": 0.1})
    layer = layer_of(tuning)
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(generator=torch.Generator().manual_seed(0))
    ids = torch.arange(3, 20)[None]
    tuning.model.train()
    first, second = (tuning.model(input_ids=ids).logits.detach() for _ in range(2))
    assert float((first - second).abs().max()) > 1e-3

    found = trained(monkeypatch, tmp_path, "monteclora", steps=2)
    assert any("std_prior" in n for n in found.trainable)
    config = json.loads((Path(found.value.path) / "adapter_config.json").read_text())
    assert config["monteclora_config"] is None
    saved = plain_adapted(found.value).state_dict()
    assert not [n for n in saved if "sampler" in n]


def test_a_block_that_is_computed_twice_draws_the_same(tmp_path: Path) -> None:
    """Gradient checkpointing does not change what MonteCLoRA learns."""

    def losses(checkpointing: bool) -> list[float]:
        root, recorder = tmp_path / str(checkpointing), Recorder()
        inputs = inputs_for(root, "monteclora", method_settings={"spread": 0.3})
        settings = train_settings("monteclora", max_steps=4, gradient_checkpointing=checkpointing)
        train_adapter(make_context(root, recorder), inputs, settings)
        return recorder.losses()

    assert losses(True) == pytest.approx(losses(False), abs=1e-5)


@pytest.mark.parametrize("kept", [False, True])
def test_uni_lora_saves_its_vector_and_the_layout_if_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Both load and merge alike; without the layout the file holds 512 numbers."""
    own = {"length": 512, "keep_places": kept}
    found = trained(monkeypatch, tmp_path, "unilora", steps=3, method_settings=own)
    size = (Path(found.value.path) / "adapter_model.safetensors").stat().st_size
    assert (size < 512 * 4 + 1000) is not kept
    assert found.value.reload_difference < 1e-5
    assert sum(found.weights[n].numel() for n in found.trainable) == 512
    merge = make_context(tmp_path / "merge", Recorder())
    merged = merge_adapter(merge, found.value.to_json(), MergeSettings())
    assert merged.merged_from[-1]["max_logit_difference"] < 1e-4


def test_a_rotation_of_psoft_is_saved_as_a_lora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT saves R alone, and on another machine its directions may have the other sign."""
    found = trained(monkeypatch, tmp_path, "psoft", steps=3)
    config = json.loads((Path(found.value.path) / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 4)
    assert found.value.reload_difference < 1e-5


def test_peanut_computes_the_change_out_of_the_weight(tmp_path: Path) -> None:
    """ΔW is s f(Wᵀ A) B, with two residual layers between for each pair (arXiv:2410.01870)."""
    import torch

    own = {"depth": 1, "activation": "tanh", "scaling": 0.5}
    layer = layer_of(built(tmp_path, "peanut", method_settings=own))
    assert not layer.get_delta_weight("default").any()  # B is zero at the start
    a, b = layer.peanut_A["default"].weight, layer.peanut_B["default"].weight
    torch.nn.init.normal_(b)
    first = torch.tanh(layer.get_base_layer().weight.T @ a.T)  # (in, r)
    down = torch.tanh(first @ layer.peanut_encoders["default"][0].weight.T)
    up = torch.tanh(down @ layer.peanut_decoders["default"][0].weight.T) + first
    assert layer.get_delta_weight("default").T.allclose(0.5 * up @ b.T, atol=1e-6)


def test_peanut_with_inner_layers_comes_back_and_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names in the file are other ones than those of A and B."""
    own = {"depth": 2, "activation": "silu"}
    found = trained(monkeypatch, tmp_path, "peanut", steps=4, method_settings=own)
    assert found.value.reload_difference < 1e-5
    parts = {n.split(".default")[0].rpartition(".")[2] for n in found.trainable}
    assert parts == {"peanut_A", "peanut_B", "peanut_encoders", "peanut_decoders"}
    trained_numbers = sum(found.weights[n].numel() for n in found.trainable)
    assert trained_numbers == sums(lambda i, o: 2 * 4 * o + 4 * 4 * 4)
    context = make_context(tmp_path / "merge", Recorder())
    merged = merge_adapter(context, found.value.to_json(), MergeSettings())
    difference: Any = merged.merged_from[-1]["max_logit_difference"]
    assert difference < 1e-4


def test_a_merge_of_peanut_keeps_one_layer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT keeps the weights as they were before, to unmerge: in the end the whole model."""
    import torch

    found = trained(monkeypatch, tmp_path, "peanut", steps=1)
    plan = plan_merge(tmp_path / "model", Path(found.value.path), torch.float32)
    for entry in plan.entries:
        plan.tensor(entry.name)
    assert not plan.unmerged()
    assert all(layer._base_weight_before_merge is None for layer in plan.layers.values())
    plan.stored.close()


@pytest.mark.parametrize("projection", ["relu", "qr"])
def test_deft_takes_a_part_out_and_puts_another_in(tmp_path: Path, projection: str) -> None:
    """(I - P Pᵀ) W + s P R, and at the start that is W (arXiv:2509.22793); QR's P is orthogonal."""
    import torch

    layer = layer_of(built(tmp_path, "deft", method_settings={"projection": projection}))
    weight, x = layer.get_base_layer().weight, torch.randn(3, 32)
    assert layer(x).allclose(x @ weight.T, atol=1e-5)
    with torch.no_grad():
        layer.deft_R["default"].add_(torch.randn(4, 32))
    p = layer.deft_P["default"]  # (out, r)
    q = torch.linalg.qr(p)[0] if projection == "qr" else p
    taken = q @ (q if projection == "qr" else torch.relu(p)).T
    wanted = (torch.eye(32) - taken) @ weight + 2.0 * q @ layer.deft_R["default"]
    assert layer(x).allclose(x @ wanted.T, atol=1e-4)


def test_deft_by_qr_learns_comes_back_and_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(monkeypatch, tmp_path, "deft", method_settings={"projection": "qr"})
    assert found.losses[-1] < found.losses[0] - 1e-3
    assert found.value.reload_difference < 1e-5
    context = make_context(tmp_path / "merge", Recorder())
    merged = merge_adapter(context, found.value.to_json(), MergeSettings())
    difference: Any = merged.merged_from[-1]["max_logit_difference"]
    assert difference < 1e-4


def test_glora_scales_the_weight_and_adds_to_it_and_to_the_bias() -> None:
    """W + W∘A + B, and b + b∘D + E + W C in a layer that has a bias (arXiv:2306.07967)."""
    import torch
    from peft.tuners.glora import GloraLinear

    value = adapted_value(model_value(Path()), method="glora")
    plain = torch.nn.Linear(6, 5)
    weight, bias = plain.weight.detach().clone(), plain.bias.detach().clone()
    layer = GloraLinear(plain, "default", METHODS["glora"].payload.build(value))
    x = torch.randn(3, 6)
    assert layer(x).allclose(torch.nn.functional.linear(x, weight, bias), atol=1e-6)
    for parameter in layer.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    paths = {k: getattr(layer, f"glora_{k}")["default"]() for k in "ABCDE"}
    changed = weight * (1 + paths["A"]) + paths["B"]
    moved = bias * (1 + paths["D"]) + paths["E"] + (weight @ paths["C"]).squeeze(-1)
    assert layer(x).allclose(torch.nn.functional.linear(x, changed, moved), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "numbers"), [("vector", lambda i, o: 2 * o), ("constant", lambda i, o: 2)]
)
def test_glora_trains_the_forms_that_are_asked_for(tmp_path: Path, form: str, numbers: Any) -> None:
    model = built(tmp_path, "glora", method_settings={"weight": form}).model
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted == sums(numbers)


def test_adamss_is_saved_as_the_lora_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three groups of rank 2: each output reads two of the six inner numbers."""
    own = {"directions": 12, "parts": 3, "rank": 2}
    found = trained(monkeypatch, tmp_path, "adamss", steps=3, method_settings=own)
    config = json.loads((Path(found.value.path) / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 6, 6)
    b = plain_adapted(found.value).base_model.model.model.layers[0].mlp.up_proj.lora_B["default"]
    used = (b.weight != 0).sum(dim=1)
    assert used.tolist() == [2] * 64
    trained_numbers = sum(found.weights[n].numel() for n in found.trainable)
    assert trained_numbers == sums(lambda i, o: 3 * 2 * 12 + 2 * o)


def test_adamss_refuses_layers_with_a_bias(tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForCausalLM

    folder = make_tiny_model(tmp_path / "model")
    config = AutoConfig.from_pretrained(folder, attention_bias=True)
    value = adapted_value(model_value(folder), method="adamss", method_settings=OWN["adamss"])
    context = make_context(tmp_path, Recorder())
    with pytest.raises(
        StudioError, match=r"layers with a bias, such as model\.layers\.0\.self_attn"
    ):
        build_adapter(context, LlamaForCausalLM(config), value, facts_of(tmp_path))


def sums(count: Any) -> int:
    """A count by layer, summed over both blocks."""
    return 2 * sum(count(width_in, width_out) for width_in, width_out in WIDTHS.values())


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


@pytest.mark.parametrize("method", COUNTS)
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


@pytest.mark.parametrize("method", COUNTABLE)
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
