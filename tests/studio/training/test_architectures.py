"""Families of models, tiny and random: each trains, resumes, reloads and merges as plain PEFT does.

What a family does differently is what breaks silently: fused or transposed layers, experts, capped
or scaled logits, sliding windows, files that name their weights otherwise, a part that sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.adapters.configure import describe
from studio.errors import StudioError
from studio.node_settings.lora import LoraSettings
from studio.node_settings.merge import MergeSettings
from studio.training.batch.batches import pad_rows
from studio.training.loop.sft import choose_head, summed_loss
from studio.training.loop.train import train_adapter
from studio.training.merge.make import merge_adapter
from studio.training.model.base_model import check_folder
from studio.training.tokens.limits import learned_positions
from studio.values import AdapterValue
from tests.studio.training.adapters import SHAPE, logits, plain_adapted, plain_model, save_family
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.tiny import VOCABULARY

pytestmark = pytest.mark.usefixtures("quiet_transformers")

_GEMMA = {**SHAPE, "head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 2.0}
_EYE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama, untied": ("LlamaConfig", {**SHAPE, "tie_word_embeddings": False}),
    "Mistral": ("MistralConfig", {**SHAPE, "sliding_window": 16}),
    "Qwen2, biases": ("Qwen2Config", SHAPE),
    "Qwen3": ("Qwen3Config", {**SHAPE, "head_dim": 8}),
    "Gemma2, capped": ("Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 5.0}),
    "Gemma3, text": ("Gemma3TextConfig", _GEMMA),
    "Gemma3, sees": (
        "Gemma3Config",
        {
            "text_config": _GEMMA,
            "vision_config": _EYE,
            "mm_tokens_per_image": 4,
            "image_token_index": 260,
            "boi_token_index": 261,
            "eoi_token_index": 262,
        },
    ),
    "Phi-3, fused": ("Phi3Config", SHAPE),
    "GPT-2, transposed": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 256,
        },
    ),
    "Mixtral, experts": (
        "MixtralConfig",
        {
            **SHAPE,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "Qwen3, experts": (
        "Qwen3MoeConfig",
        {
            **SHAPE,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
        },
    ),
    "Granite, scaled": ("GraniteConfig", {**SHAPE, "logits_scaling": 4.0}),
}
_ADAPTED = {
    "Phi-3, fused": 8,
    "GPT-2, transposed": 8,
    "Mixtral, experts": 12,
    "Qwen3, experts": 12,
}


def make_model(folder: Path, family: str) -> Path:
    return save_family(folder, *FAMILIES[family])


def trained(root: Path, recorder: Recorder, **settings: Any) -> AdapterValue:
    """Base model, LoRA on all linear layers, and two steps of training."""
    context = make_context(root, recorder)
    model = root.parent / "model"
    check_folder(context, model, "the model")
    adapted = describe(context, model_value(model).to_json(), LoraSettings(r=4, alpha=8))
    data = dataset_value(root / "data", 12)
    inputs = {"dataset": data.to_json(), "model": adapted.to_json()}
    return train_adapter(context, inputs, settings_of(max_steps=2, save_steps=1, **settings))


def weights(value: AdapterValue) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(Path(value.path) / "adapter_model.safetensors"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_resumes_reloads_and_merges(tmp_path: Path, family: str) -> None:
    """All linear layers of the text model, bit by bit after a resume, merged as plain PEFT says."""
    import torch

    base = make_model(tmp_path / "model", family)
    recorder, again = Recorder(), Recorder()
    value = trained(tmp_path / "run", recorder)
    assert value.reload_difference <= 1e-5
    found = weights(value)
    assert len([n for n in found if "lora_A" in n]) == _ADAPTED.get(family, 14)
    assert not any("vision" in name for name in found)

    resumed = weights(trained(tmp_path / "run", again))
    assert [e.get("step") for e in again.named("TrainResumed")] == [2]
    assert all(torch.equal(found[n], resumed[n]) for n in found)
    saving = Recorder()
    trained(tmp_path / "saving", saving, gradient_checkpointing=True)
    assert saving.losses() == pytest.approx(recorder.losses(), abs=1e-5)

    context = make_context(tmp_path / "merge", Recorder())
    merged = plain_model(merge_adapter(context, value.to_json(), MergeSettings()).path)
    wanted = logits(plain_adapted(value))
    assert float((logits(merged) - wanted).abs().max()) < 1e-5
    assert float((logits(plain_model(base)) - wanted).abs().max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_short_head_gives_the_loss_of_the_full_one(tmp_path: Path, family: str) -> None:
    """Capped and scaled logits too: the same sum on label positions alone."""
    from datasets import Dataset

    model = plain_model(make_model(tmp_path / "model", family))
    rows = [
        {"input_ids": list(range(9, 9 + n)), "labels": [-100] * 4 + list(range(13, 9 + n))}
        for n in (8, 21, 40)
    ]
    batch = pad_rows(Dataset.from_list(rows), [0, 1, 2], 0)
    assert choose_head(model, batch) == "rows"  # a head that is trained needs its own gradient
    model.requires_grad_(False)
    capped = family in ("Gemma2, capped", "Gemma3, text")
    assert choose_head(model, batch) == ("rows" if capped else "chunks")
    short, full = (float(summed_loss(model, batch, head)) for head in ("rows", "full"))
    assert short == pytest.approx(full, rel=1e-6)


def test_a_router_and_a_part_that_sees_are_no_targets(tmp_path: Path) -> None:
    """They are neither listed nor taken when a user names them."""
    for family, wrong in (("Mixtral, experts", "gate"), ("Gemma3, sees", "fc1")):
        model = model_value(make_model(tmp_path / family, family))
        context = make_context(tmp_path, Recorder())
        with pytest.raises(StudioError, match=f"“{wrong}” matches no linear layer"):
            describe(context, model.to_json(), LoraSettings(target_modules=["q_proj", wrong]))


def test_learned_positions_cut_the_rows(tmp_path: Path) -> None:
    """A GPU would end the process; rotary models have no such limit."""
    model = make_model(tmp_path / "model", "GPT-2, transposed")
    assert learned_positions(model) == 256
    assert learned_positions(make_model(tmp_path / "other", "Qwen3")) is None
    recorder = Recorder()
    trained(tmp_path / "run", recorder, max_length=1000)
    assert any("at most 256 tokens" in e.get("sentence") for e in recorder.named("Notice"))
