"""The check of a merge that reads large models layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import Stopped, StudioError
from studio.training.merge import check, streamed
from studio.training.merge.check import adapter_difference, merge_difference
from studio.training.merge.streamed import NotStreamed, streamed_logits
from studio.training.model.weights_file import StoredWeights
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import plain_adapted, plain_model, random_adapter, tiny_base
from tests.studio.training.gguf_models import FAMILIES, MIXTURES, save_noisy
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_merge import METHODS, merged

pytestmark = pytest.mark.usefixtures("quiet_transformers")
ROWS = [[5, 60, 7, 200, 31], [9, 8, 7, 6, 5, 4, 3, 2, 1, 20, 30, 40], [77]]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as a large one, and none may be loaded."""
    monkeypatch.setattr(check, "is_large", lambda value: True)
    monkeypatch.setattr(check, "load_base", _refuse)


def _refuse(*args: Any, **more: Any) -> Any:
    raise AssertionError("a model was loaded")


def assert_same(root: Path, base: ModelValue, adapter: AdapterValue | None) -> None:
    """What plain libraries compute row by row, and what is computed layer by layer."""
    model = plain_model(base.path) if adapter is None else plain_adapted(adapter)
    context = make_context(root / "check", Recorder())
    found = streamed_logits(context, Path(base.path), adapter.path if adapter else None, ROWS)
    with torch.no_grad():
        for row, logits in zip(ROWS, found, strict=True):
            wanted = model(torch.tensor([row])).logits[0]
            assert torch.allclose(logits, wanted, atol=1e-5)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in MIXTURES])
def test_every_architecture_computes_the_same(tmp_path: Path, family: str) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES[family]))
    assert_same(tmp_path, base, None)
    assert_same(tmp_path, base, random_adapter(tmp_path, base, size=0.2))


@pytest.mark.parametrize("method", METHODS)
def test_every_adapter_computes_the_same(tmp_path: Path, method: str) -> None:
    base = tiny_base(tmp_path)
    assert_same(tmp_path, base, random_adapter(tmp_path, base, size=0.2, **METHODS[method]))


def test_a_layer_keeps_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one decoder layer has its weights at a time."""
    base = tiny_base(tmp_path, layers=3)
    stored: list[Any] = []
    most = [0]
    real = StoredWeights.tensor

    def tensor(self: StoredWeights, name: str) -> torch.Tensor:
        import weakref

        value = real(self, name)
        stored.append(weakref.ref(value))
        alive = [t for t in (ref() for ref in stored) if t is not None]
        most[0] = max(most[0], sum(t.numel() for t in alive))
        return value

    monkeypatch.setattr(StoredWeights, "tensor", tensor)
    streamed_logits(make_context(tmp_path / "c", Recorder()), Path(base.path), None, ROWS)
    sizes = {e.name: e.size // 4 for e in StoredWeights(Path(base.path)).entries()}
    layer = sum(size for name, size in sizes.items() if ".layers.0." in name)
    assert most[0] <= max(layer, max(sizes.values()))


@pytest.mark.usefixtures("large")
def test_a_large_merge_is_compared_without_loading_it(tmp_path: Path) -> None:
    recorder = Recorder()
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), use_dora=True)
    value = merged(tmp_path, adapter, recorder)
    assert value.merged_from[-1]["max_logit_difference"] < 1e-5
    assert "verify" in {e.get("phase") for e in recorder.named("Progress")}


@pytest.mark.usefixtures("large")
def test_a_wrong_merge_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    value = merged(tmp_path, adapter)
    weights = Path(value.path) / "model.safetensors"
    tensors = read_tensors(weights)
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.5
    write_tensors(tensors, weights)
    context = make_context(tmp_path / "again", Recorder())
    monkeypatch.setattr(check, "free_bytes", lambda device: -1)  # nothing else can be tried
    with pytest.raises(StudioError) as caught:
        merge_difference(context, adapter, value)
    assert caught.value.code == "merge_mismatch"


def test_what_cannot_be_read_by_layers_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    monkeypatch.setattr(check, "is_large", lambda value: True)
    monkeypatch.setattr(streamed, "_tied_head", lambda model: {"lm_head.weight": "nowhere.weight"})
    context = make_context(tmp_path / "c", Recorder())
    with pytest.raises(NotStreamed, match=r"nowhere\.weight is not stored"):
        streamed_logits(context, Path(adapter.model.model.path), None, ROWS)
    value = merged(tmp_path, adapter)
    assert value.merged_from[-1]["max_logit_difference"] < 1e-5
    monkeypatch.setattr(check, "free_bytes", lambda device: -1)
    with pytest.raises(StudioError, match="comparing the merged model with the adapter needs"):
        merge_difference(context, adapter, value)


@pytest.mark.usefixtures("large")
def test_two_adapters_of_a_large_base(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    one, other = random_adapter(tmp_path / "a", base), random_adapter(tmp_path / "b", base, r=2)
    context = make_context(tmp_path / "c", Recorder())
    same = adapter_difference(context, one, Path(one.path))
    assert same.largest < 1e-6 < same.logit
    assert adapter_difference(context, one, Path(other.path)).largest > 1e-3


def test_a_stop_between_layers(tmp_path: Path) -> None:
    asked: list[int] = []
    context = make_context(
        tmp_path / "c", Recorder(), stop=lambda: bool(asked.append(1)) or len(asked) > 2
    )
    with pytest.raises(Stopped):
        streamed_logits(context, Path(tiny_base(tmp_path).path), None, ROWS)


def test_the_index_of_several_files(tmp_path: Path) -> None:
    """As the hub expects it: all tensors, their files, and the bytes of all tensors."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    folder = Path(merged(tmp_path, adapter, shard_bytes=20_000).path)
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    found = {
        name: (file.name, tensor)
        for file in folder.glob("*.safetensors")
        for name, tensor in read_tensors(file).items()
    }
    assert {name: file for name, (file, _) in found.items()} == index["weight_map"]
    total = sum(t.numel() * t.element_size() for _, t in found.values())
    assert index["metadata"]["total_size"] == total
