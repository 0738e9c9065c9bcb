"""Every LoRA method in every precision it allows: it learns, changes nothing else, reloads and merges.

The float32 row of the core methods runs always; the others are behind ``slow``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import StudioError
from studio.node_settings.merge import MergeSettings
from studio.training.merge.make import merge_adapter
from tests.studio.training.adapters import logits, other_signs, plain_adapted, plain_model
from tests.studio.training.methods import BASES, METHODS, Trained, each, trained
from tests.studio.training.steps import Recorder, make_context

pytestmark = [
    pytest.mark.filterwarnings("ignore:MatMul8bitLt"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
QUANTIZED = ("nf4", "int8")
SMALL_LOGITS = 0.02
"""Half precision: the tiny model's hidden states are ten times its logits, and round accordingly."""


def allowed(method: str, base: str) -> bool:
    """Whether the method says that it trains on such a base."""
    payload = METHODS[method].payload
    if base in QUANTIZED:
        return bool(payload.trains_on(base))
    return base in payload.dtypes and not payload.only_quantized


ROWS = [(m, b) for m in METHODS for b in BASES if allowed(m, b)]
QUICK = [(m, b) for m, b in ROWS if b == "float32" or (m, b) == ("loftq", "nf4")]
SLOW = [(m, b) for m, b in ROWS if (m, b) not in QUICK]
REFUSED = [(m, b) for m in METHODS for b in QUANTIZED if not allowed(m, b)]


@pytest.fixture(autouse=True)
def wide_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reload check's tolerance for models whose logits are as small as the tiny one's."""
    from studio.training.adapter import verify

    real = verify.tolerance
    monkeypatch.setattr(
        verify,
        "tolerance",
        lambda dtype, *more: max(real(dtype, *more), 0 if dtype == "float32" else SMALL_LOGITS),
    )


@pytest.mark.parametrize(("method", "base"), each(QUICK))
def test_a_method_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, base: str
) -> None:
    check(tmp_path, monkeypatch, method, base, steps=4)


@pytest.mark.slow(seconds=1, kind="nf4")
@pytest.mark.parametrize(("method", "base"), SLOW)
def test_a_method_in_other_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, base: str
) -> None:
    check(tmp_path, monkeypatch, method, base, steps=8)


def check(root: Path, monkeypatch: pytest.MonkeyPatch, method: str, base: str, steps: int) -> None:
    """The whole life of an adapter."""
    found = trained(monkeypatch, root, method, base, steps=steps)
    assert found.losses[-1] < found.losses[0] - 1e-3, found.losses  # the same four rows each time
    assert_base_unchanged(root, found, base)
    if base == "float32":
        assert found.value.reload_difference < 1e-5
        assert_plain_peft_gives_the_same(root, found)
    merged(root, method, found)


def assert_base_unchanged(root: Path, found: Trained, base: str) -> None:
    """Every weight of the base is bit for bit what the file holds; the adapter's are the others."""
    if base in QUANTIZED:  # bitsandbytes keeps them packed: the reload check compares them
        return
    untouched = 0
    for name, value in plain_model(root / "model").named_parameters():
        for kept in (f"base_model.model.{name}", _inside(f"base_model.model.{name}")):
            if kept in found.weights and kept not in found.trainable:
                wanted = value.to(getattr(torch, BASES[base]["dtype"]))
                assert (found.weights[kept] == wanted).all(), name
                untouched += 1
    assert untouched > 10
    assert found.trainable


def _inside(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.base_layer.{last}"


def assert_plain_peft_gives_the_same(root: Path, found: Trained) -> None:
    """Other programs load the adapter, also on another machine: it is not the base, and holds no path
    of a start."""
    adapted, plain = plain_adapted(found.value), plain_model(root / "model")
    with other_signs():
        elsewhere = plain_adapted(found.value)
    assert float((logits(adapted) - logits(elsewhere)).abs().max()) < 1e-4
    if found.value.model.method != "alora":  # acts only after its phrase, see test_methods
        assert float((logits(adapted) - logits(plain)).abs().max()) > 1e-4
    config = json.loads(
        (Path(found.value.path) / "adapter_config.json").read_text(encoding="utf-8")
    )
    assert config.get("init_lora_weights", True) in (True, "gaussian", "eva", "mica")
    assert all(torch.isfinite(p).all() for p in adapted.parameters())


def merged(root: Path, method: str, found: Trained) -> None:
    """The merged model answers alike, or the refusal says why."""
    context = make_context(root / "merge", Recorder())
    if METHODS[method].payload.cannot_merge:
        with pytest.raises(StudioError, match="cannot be merged") as caught:
            merge_adapter(context, found.value.to_json(), MergeSettings())
        assert METHODS[method].payload.cannot_merge in caught.value.sentence
        return
    model = merge_adapter(context, found.value.to_json(), MergeSettings())
    difference: Any = model.merged_from[-1]["max_logit_difference"]
    assert difference < (1e-4 if found.value.model.model.dtype == "float32" else 0.12)


@pytest.mark.parametrize(("method", "base"), each(REFUSED))
def test_what_a_method_cannot_train_on_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, base: str
) -> None:
    """With the method's name, before a step is run."""
    with pytest.raises(StudioError, match="does not train on a base that is quantized") as caught:
        trained(monkeypatch, tmp_path, method, base)
    assert METHODS[method].title in caught.value.sentence
    assert caught.value.code == "method_quantization"
