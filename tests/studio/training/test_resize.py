"""A resized adapter: the best approximation of its rank, reported correctly, loaded by plain PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import StudioError
from studio.node_settings.resize import ResizeSettings
from studio.training.merge.resize import resize_adapter, shrink
from studio.values import AdapterValue
from tests.studio.training.adapters import logits, plain_adapted, random_adapter, tiny_base
from tests.studio.training.steps import Recorder, make_context

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def resized(
    root: Path, adapter: AdapterValue, recorder: Recorder | None = None, **settings: Any
) -> AdapterValue:
    context = make_context(root / "resize", recorder or Recorder())
    context.title = "Resize"
    return resize_adapter(context, adapter.to_json(), ResizeSettings(**settings))


def change(folder: str, name: str) -> torch.Tensor:
    """ΔW of one layer, from the files alone."""
    config = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(Path(folder) / "adapter_model.safetensors")
    a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
    rank = a.shape[0]
    plain = name.removeprefix("base_model.model.")
    alpha = config["alpha_pattern"].get(plain, config["lora_alpha"])
    return alpha / (rank**0.5 if config["use_rslora"] else rank) * b @ a


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("rslora", [False, True])
def test_the_nearest_of_its_rank(tmp_path: Path, rslora: bool) -> None:
    """The error is that of the cut singular values: no matrix of this rank is nearer."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), size=0.2, r=8, use_rslora=rslora)
    small = resized(tmp_path, adapter, by="rank", r=3)
    before, after = change(adapter.path, LAYER), change(small.path, LAYER)
    assert int(torch.linalg.matrix_rank(after, tol=1e-5)) == 3
    cut = torch.linalg.svdvals(before)[3:]
    assert float((before - after).norm()) == pytest.approx(float(cut.norm()), rel=1e-3)
    assert (small.model.r, small.model.alpha, small.model.method) == (3, 3, "lora")


def test_everything_kept_is_the_same_adapter(tmp_path: Path) -> None:
    """Energy of 1: the same logits in plain PEFT, and the same rank."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), size=0.2)
    named = "additional_chat_templates/tool_use.jinja"
    (Path(adapter.path) / named).parent.mkdir()
    (Path(adapter.path) / named).write_text("{{ messages[0].content }}", encoding="utf-8")
    small = resized(tmp_path, adapter, by="energy", energy=1.0)
    assert (Path(small.path) / named).is_file()
    assert small.metrics["retained_energy"] == pytest.approx(1.0)
    assert small.metrics["resize_logit_difference"] < 1e-3
    assert float((logits(plain_adapted(small)) - logits(plain_adapted(adapter))).abs().max()) < 1e-3


def test_layers_keep_what_they_need(tmp_path: Path) -> None:
    """A layer that changed in one direction keeps one; the others keep theirs. All ranks are reported."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), size=0.2, r=4)
    file = Path(adapter.path) / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[f"{LAYER}.lora_B.weight"][:, 1:] *= 1e-4
    from safetensors.torch import save_file

    save_file(tensors, file, metadata={"format": "pt"})
    recorder = Recorder()
    small = resized(tmp_path, adapter, recorder, by="energy", energy=0.99)
    stored = load_file(Path(small.path) / "adapter_model.safetensors")
    assert stored[f"{LAYER}.lora_A.weight"].shape[0] == 1
    assert max(t.shape[0] for n, t in stored.items() if ".lora_A" in n) > 1
    assert small.model.rank_pattern[LAYER.removeprefix("base_model.model.")] == 1  # in the card
    assert small.metrics["retained_energy"] >= 0.99
    sentence = recorder.named("Notice")[-1].get("sentence")
    assert "Rank 4 was reduced to 1 to" in sentence
    difference = (logits(plain_adapted(small)) - logits(plain_adapted(adapter))).abs().max()
    assert float(difference) <= small.metrics["resize_logit_difference"] * 3 + 1e-3


def test_a_still_layer_keeps_one_direction() -> None:
    """Zero divided by zero is no share: nothing was lost."""
    shrunk = shrink(torch.randn(4, 6), torch.zeros(5, 4), 2.0, 2)
    assert (shrunk.r, shrunk.kept) == (2, 1.0)
    assert float((shrunk.b @ shrunk.a).abs().max()) == 0.0


def test_dora_is_refused(tmp_path: Path) -> None:
    """Its vector of lengths has no singular values."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), use_dora=True)
    with pytest.raises(StudioError, match="DoRA also trains the magnitude") as caught:
        resized(tmp_path, adapter, by="rank", r=2)
    assert caught.value.code == "cannot_resize"
