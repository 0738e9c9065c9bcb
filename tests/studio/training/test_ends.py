"""LoRA on the embedding and on the output head, tied and untied: as plain PEFT does it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.adapters.configure import describe
from studio.errors import StudioError
from studio.estimate.trainable import count, matched, rank_for
from studio.model.layers import LinearModule
from studio.model.read_shape import read_shape
from studio.model.targets import choose, end_modules
from studio.node_settings.lora import LoraSettings
from studio.node_settings.merge import MergeSettings
from studio.training.adapter.build import build_adapter
from studio.training.loop.train import train_adapter
from studio.training.merge.make import merge_adapter
from studio.values import AdaptedModelValue, AdapterValue
from tests.studio.training.adapters import logits, plain_adapted, plain_model, random_adapter
from tests.studio.training.methods import facts_of
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_gpt2, make_tiny_model

pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]
ENDS = [["lm_head"], ["embed_tokens"], ["model.embed_tokens", "lm_head"]]


def base(folder: Path, tied: bool) -> Path:
    make_tiny_model(folder)
    if not tied:
        model = plain_model(folder)
        config = model.config
        config.tie_word_embeddings = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            type(model)(config).save_pretrained(folder)
    return folder


def described(
    folder: Path, root: Path, targets: list[str], **more: Any
) -> tuple[AdaptedModelValue, list[str]]:
    recorder = Recorder()
    settings = LoraSettings(r=4, alpha=8, target_modules=["q_proj", *targets], **more)
    value = describe(make_context(root, recorder), model_value(folder).to_json(), settings)
    return value, [e.get("sentence") for e in recorder.named("Notice")]


def plain(folder: Path, value: AdaptedModelValue, **more: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=list(value.target_modules), task_type="CAUSAL_LM", **more
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(plain_model(folder), config)


def losses(model: Any, steps: int = 4) -> list[float]:
    ids = torch.arange(3, 35)[None]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    found = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss))
    return found


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("targets", ENDS, ids=["head", "embedding", "both"])
def test_the_adapter_is_that_of_peft(tied: bool, targets: list[str], tmp_path: Path) -> None:
    folder = base(tmp_path / "model", tied)
    value, said = described(folder, tmp_path, targets)
    assert any("shares one matrix" in s for s in said) == tied
    torch.manual_seed(3)
    ours = build_adapter(
        make_context(tmp_path, Recorder()), plain_model(folder), value, facts_of(tmp_path)
    ).model
    torch.manual_seed(3)
    theirs = plain(folder, value)
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    assert losses(ours) == losses(theirs)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("targets", ENDS, ids=["head", "embedding", "both"])
@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_it_is_trained_reloaded_and_merged(
    tied: bool, targets: list[str], method: str, tmp_path: Path
) -> None:
    folder = base(tmp_path / "model", tied)
    value, _ = described(folder, tmp_path, targets, method=method)
    inputs = {**make_inputs(tmp_path, 4, 0), "model": value.to_json()}
    adapter = train_adapter(
        make_context(tmp_path, Recorder()),
        inputs,
        settings_of(max_steps=3, batch_size=4, learning_rate=1e-2),
    )
    assert isinstance(adapter, AdapterValue)
    assert adapter.reload_difference < 1e-5
    saved = load_file(Path(adapter.path) / "adapter_model.safetensors")
    theirs = tmp_path / "theirs"
    plain(folder, value, use_rslora=method == "rslora").save_pretrained(
        theirs, save_embedding_layers=False
    )
    expected = load_file(theirs / "adapter_model.safetensors")
    assert {n: t.shape for n, t in saved.items()} == {n: t.shape for n, t in expected.items()}
    changed = float((logits(plain_adapted(adapter)) - logits(plain_model(folder))).abs().max())
    assert changed > 1e-3
    recorder = Recorder()
    context = make_context(tmp_path / "merge", recorder)
    merged = merge_adapter(context, adapter.to_json(), MergeSettings())
    difference = logits(plain_model(merged.path)) - logits(plain_adapted(adapter))
    assert float(difference.abs().max()) < 1e-5
    config = json.loads((Path(merged.path) / "config.json").read_text(encoding="utf-8"))
    assert config["tie_word_embeddings"] is False
    said = [e.get("sentence") for e in recorder.named("Notice")]
    assert any("the merged model contains both" in s for s in said) == tied


def test_presets_leave_embedding_and_head_out(tmp_path: Path) -> None:
    folder = base(tmp_path / "model", True)
    found = end_modules(folder)
    assert [(m.name, m.width_in, m.width_out) for m in found] == [
        ("model.embed_tokens", 264, 32),
        ("lm_head", 32, 264),
    ]
    layers = [LinearModule("model.layers.0.self_attn.q_proj", 32, 32)]
    for wanted in ("all-linear", ["q_proj"]):
        assert choose(layers, LoraSettings(target_modules=wanted), "it", found).names == ["q_proj"]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("targets", ENDS, ids=["head", "embedding", "both"])
def test_the_estimate_counts_them_as_peft_does(
    tied: bool, targets: list[str], tmp_path: Path
) -> None:
    folder = base(tmp_path / "model", tied)
    settings = LoraSettings(r=4, target_modules=["q_proj", *targets], rank_pattern="q_proj=2")
    shape = read_shape(folder)
    assert shape is not None
    chosen = choose(shape.modules(), settings, "it", end_modules(folder))
    ranks = rank_for(4, chosen.ranks)
    ends = [m for m in chosen.layers if m.end]
    ours = count(shape, "lora", matched(shape, chosen.names, ranks), ends=ends, ranks=ranks)
    value, _ = described(folder, tmp_path, targets, rank_pattern="q_proj=2")
    theirs = plain(folder, value, rank_pattern=dict(value.rank_pattern))
    assert (ours.trainable, ours.total(shape)) == theirs.get_nb_trainable_parameters()


def test_an_adapter_of_the_embedding_is_not_resized(tmp_path: Path) -> None:
    from studio.node_settings.resize import ResizeSettings
    from studio.training.merge.resize import resize_adapter

    folder = base(tmp_path / "model", True)
    adapter = random_adapter(tmp_path, model_value(folder), target_modules=["embed_tokens"])
    with pytest.raises(
        StudioError, match=r"cannot be resized: it changes the embedding \(model.embed"
    ):
        resize_adapter(make_context(tmp_path, Recorder()), adapter.to_json(), ResizeSettings())


def test_a_range_keeps_them_and_ranks_reach_them(tmp_path: Path) -> None:
    folder = base(tmp_path / "model", False)
    value, _ = described(
        folder,
        tmp_path,
        ["lm_head"],
        layers="1",
        rank_pattern="lm_head=8",
        alpha_pattern="lm_head=2",
    )
    assert value.target_modules == ["model.layers.1.self_attn.q_proj", "lm_head"]
    model = build_adapter(
        make_context(tmp_path, Recorder()), plain_model(folder), value, facts_of(tmp_path)
    ).model
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if "lora_A" in n}
    assert sorted(shapes.values()) == [(4, 32), (8, 32)]


def test_gpt2(tmp_path: Path) -> None:
    folder = make_tiny_gpt2(tmp_path / "model")
    settings = LoraSettings(target_modules=["c_attn", "wte", "lm_head"])
    recorder = Recorder()
    value = describe(make_context(tmp_path, recorder), model_value(folder).to_json(), settings)
    assert value.target_modules == ["c_attn", "wte", "lm_head"]
    assert any(
        "Each gets an adapter of its own" in e.get("sentence") for e in recorder.named("Notice")
    )


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"method": "loha"}, "target_modules", "LoHa does not support lm_head, the output head"),
        ({"method": "pissa"}, "target_modules", "does not support lm_head"),
        ({"method": "lora_plus"}, "target_modules", "does not support lm_head"),
        ({"modules_to_save": "lm_head"}, "target_modules", "and is fully trained as well"),
        ({"trained_tokens": "5"}, "trained_tokens", "which trains these tokens, too"),
        ({"target_modules": ["embed_out"]}, "target_modules", "no output head called “embed_out”"),
        ({"target_modules": ["wte"]}, "target_modules", "has no embedding called “wte”"),
        (
            {"target_modules": ["embed_tokens"], "method_settings": {"init": "orthogonal"}},
            "method_settings.init",
            "does not support the orthogonal initialization",
        ),
    ],
)
def test_what_is_not_supported_is_said(
    changes: dict[str, Any], field: str, sentence: str, tmp_path: Path
) -> None:
    folder = base(tmp_path / "model", False)
    settings = LoraSettings.model_validate({"target_modules": ["q_proj", "lm_head"], **changes})
    with pytest.raises(StudioError, match=sentence) as caught:
        describe(make_context(tmp_path, Recorder()), model_value(folder).to_json(), settings)
    assert caught.value.field == field
    assert caught.value.hint
