"""Research methods differ from plain LoRA in the way that their papers say; in the slow pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.node_settings.merge import MergeSettings
from studio.training.adapter.build import build_adapter
from studio.training.loop.train import train_adapter
from studio.training.merge.layers import plan_merge
from studio.training.merge.make import merge_adapter
from tests.studio.training.adapters import plain_adapted
from tests.studio.training.methods import (
    METHODS,
    OWN,
    built,
    facts_of,
    inputs_for,
    layer_of,
    sums,
    train_settings,
    trained,
)
from tests.studio.training.steps import Recorder, adapted_value, make_context, model_value
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow(seconds=30)


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
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
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
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
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
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
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
