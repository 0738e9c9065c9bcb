"""Merging an adapter that was trained on a quantized base into the weights that it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import StudioError
from studio.export_folder.model_card import model_card
from studio.node_settings.merge import MergeSettings
from studio.training.merge.dequantized import dequantizer
from studio.training.merge.make import merge_adapter
from studio.training.model.load import load_base
from studio.training.model.weights_file import StoredWeights
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import plain_model, random_adapter, save_family, tiny_base
from tests.studio.training.gguf_models import FAMILIES
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_parity import exported

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def quantized(base: ModelValue, kind: str, **more: Any) -> ModelValue:
    return base.model_copy(update={"quantization": kind, **more})


def merged(
    root: Path, value: AdapterValue, recorder: Recorder | None = None, **settings: Any
) -> ModelValue:
    context = make_context(root, recorder or Recorder())
    context.title = "Merge"
    options = {"base_weights": "dequantized", "dtype": "float32", **settings}
    return merge_adapter(context, value.to_json(), MergeSettings(**options))


@pytest.mark.parametrize(
    ("kind", "double"), [("nf4", False), ("nf4", True), ("fp4", True), ("int8", False)]
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_weights_are_those_of_the_quantized_model(
    tmp_path: Path, kind: str, double: bool, family: str
) -> None:
    """Every layer that transformers quantizes, and no other."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    folder = save_family(tmp_path / "model", *FAMILIES[family])
    base = quantized(model_value(folder), kind, double_quant=double)
    model = load_base(make_context(tmp_path, Recorder()), base, device=torch.device("cpu"))
    weight, stored = dequantizer(base), StoredWeights(folder)
    changed = 0
    for name, module in model.named_modules():
        if not type(module).__name__.startswith("Linear") or name == "lm_head":
            continue
        wanted = dequantize_bnb_weight(module.weight, getattr(module, "state", None)).float()
        own = stored.tensor(f"{name}.weight")
        found = weight(f"{name}.weight", own).float()
        assert torch.allclose(found.T if family == "gpt2" else found, wanted, atol=1e-5), name
        changed += not torch.equal(found, own)
    assert changed == (14 if family == "llama" else 8)
    ends = [e.name for e in stored.entries() if "embed" in e.name or "norm" in e.name]
    for name in [*ends, "lm_head.weight"]:
        value = torch.randn(4, 4)
        assert weight(name, value) is value


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_merged_model_computes_what_was_trained(tmp_path: Path, kind: str) -> None:
    base = tiny_base(tmp_path, hidden=64)
    adapter = random_adapter(tmp_path, base)
    on_quantized = adapter.model_copy(
        update={"model": adapter.model.model_copy(update={"model": quantized(base, kind)})}
    )
    recorder = Recorder()
    value = merged(tmp_path / "a", on_quantized, recorder)
    other = merged(tmp_path / "b", on_quantized, base_weights="original")
    near, far = (v.merged_from[-1]["quantized_logit_difference"] for v in (value, other))
    assert near < far
    if kind == "nf4":  # int8 also rounds the inputs of each layer
        assert near < 1e-4 < far
    sentences = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    assert f"the dequantized weights of its {kind} base (float32)" in sentences
    assert f"{near:.2g}" in sentences
    card = model_card(value, "Talk")
    assert f"merged into its dequantized {kind} weights" in card
    assert f"merged against the quantized base it was trained on | {near:.3g}" in card
    assert "merged into its weights" in model_card(other, "Talk")
    states = [plain_model(v.path).state_dict() for v in (value, other)]
    assert not torch.equal(*(s["model.layers.0.mlp.up_proj.weight"] for s in states))


def test_weights_that_are_not_those_of_the_training_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.training.merge import make

    base = tiny_base(tmp_path, hidden=64)
    adapter = random_adapter(tmp_path, base)
    model = adapter.model.model_copy(update={"model": quantized(base, "nf4")})
    monkeypatch.setattr(make, "dequantizer", lambda base: lambda path, stored: stored * 0.9)
    with pytest.raises(StudioError) as caught:
        merged(tmp_path, adapter.model_copy(update={"model": model}))
    assert caught.value.code == "merge_mismatch"


def test_a_base_that_was_not_quantized_is_said(tmp_path: Path) -> None:
    recorder = Recorder()
    value = merged(tmp_path, random_adapter(tmp_path, tiny_base(tmp_path)), recorder)
    assert "base_weights" not in value.merged_from[-1]
    sentences = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    assert "was not quantized in the training" in sentences


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.usefixtures("one_process")
def test_an_export_is_compared_with_what_was_trained(tmp_path: Path, kind: str) -> None:
    """The reference of a model that was merged into its dequantized weights has these weights, too; that of one that
    was merged into the original weights has those, and says so."""
    base = quantized(tiny_base(tmp_path, hidden=64), kind)
    adapter = random_adapter(tmp_path, base, size=0.3)
    for weights, near in (("dequantized", True), ("original", False)):
        value = merged(tmp_path / weights, adapter, base_weights=weights)
        _, recorder = exported(tmp_path / weights, value)
        (event,) = recorder.named("ExportChecked")
        assert event.get("verdict") == "green", event.data
        assert event.get("kl_mean") < 1e-6 < event.get("effect")
        said = f"dequantized from {kind}" if near else f"not with those in {kind}"
        assert said in event.get("reference")


@pytest.mark.usefixtures("one_process")
def test_a_merge_into_other_weights_is_seen(tmp_path: Path) -> None:
    """A model that is said to have the weights of its training, and has the original ones."""
    base = quantized(tiny_base(tmp_path, hidden=64), "nf4")
    value = merged(tmp_path, random_adapter(tmp_path, base, size=0.3), base_weights="original")
    record = {**value.merged_from[-1], "base_weights": "dequantized"}
    _, recorder = exported(tmp_path, value.model_copy(update={"merged_from": [record]}))
    (event,) = recorder.named("ExportChecked")
    assert event.get("kl_mean") > 1e-6
