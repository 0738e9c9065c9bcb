"""A model in int8 keeps no inputs of its layers; on a CPU, where bitsandbytes computes in int8 too."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.autograd import _functions

from studio.training.estimate.dry_run import LiveStorages
from studio.training.loop.state import enable_gradient_checkpointing
from studio.training.loop.train import train_adapter
from studio.training.model.int8 import keep_no_inputs
from studio.training.model.load import load_base
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt")


def held(model: Any, checkpointing: bool) -> int:
    """Bytes held between forward and backward pass."""
    model.train()
    model.enable_input_require_grads()
    if checkpointing:
        enable_gradient_checkpointing(model)
    ids = torch.arange(256).view(4, 64)
    gc.collect()
    with LiveStorages() as live:
        hidden = model.model(ids, use_cache=False).last_hidden_state
        gc.collect()
        found = live.now - hidden.untyped_storage().nbytes()
        hidden.float().sum().backward()
    return found


def test_checkpointing_frees_what_int8_layers_kept(tmp_path: Path) -> None:
    """As little as without quantization: one input per decoder layer, and not that of each linear layer."""
    folder = make_tiny_model(tmp_path / "model", layers=4)
    context = make_context(tmp_path, Recorder())
    found = {}
    for quantization in ("none", "int8"):
        value = model_value(folder, quantization=quantization, dtype="bfloat16")
        model = load_base(context, value)
        model.requires_grad_(False)
        found[quantization] = (held(model, False), held(model, True))
    assert found["int8"][1] <= 1.1 * found["none"][1]
    assert found["int8"][1] < 0.6 * found["int8"][0]
    assert found["int8"][0] <= 1.1 * found["none"][0]


@pytest.mark.parametrize("name", ["MatMul8bitLt", "MatMul8bitFp"])
@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_the_gradient_is_the_same_and_the_context_is_empty(name: str, threshold: float) -> None:
    """``MatMul8bitLt`` is the function for GPUs; bitsandbytes computes it on a CPU as well."""
    keep_no_inputs()
    kind = getattr(_functions, name)
    own = kind.__mro__[1]
    assert own is not torch.autograd.Function
    torch.manual_seed(0)
    inputs = torch.randn(2, 8, 64, dtype=torch.bfloat16)
    inputs[:, :, 3] = 20.0  # an outlier, which has its own path
    weight = torch.randn(32, 64).half()
    gradients = []
    for function in (own, kind):
        state = bnb.MatmulLtState()
        state.has_fp16_weights, state.threshold = False, threshold
        state.CB, state.SCB, _ = bnb.functional.int8_vectorwise_quant(weight)
        a = inputs.clone().requires_grad_()
        y = function.apply(a, state.CB, None, None, state)
        kept = [getattr(y.grad_fn, n, None) for n in ("tensors", "tensor_states", "A")]
        tensors = [t for t in (*(kept[0] or ()), *(kept[1] or ()), kept[2]) if t is not None]
        assert bool(tensors) is (function is own)
        y.float().square().sum().backward()
        gradients.append(a.grad)
    assert torch.equal(*gradients)


def test_a_training_of_all_weights_keeps_its_inputs() -> None:
    """Only a frozen weight needs none."""
    keep_no_inputs()
    a = torch.randn(4, 16, requires_grad=True)
    b = torch.randn(8, 16, requires_grad=True)
    state = bnb.MatmulLtState()
    y = _functions.MatMul8bitFp.apply(a, b, None, None, state)
    assert y.grad_fn.A is not None


def test_the_cast_of_inputs_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """On a GPU bitsandbytes warns of it for each layer in each step; other warnings pass."""
    keep_no_inputs()
    caplog.set_level(logging.WARNING)
    state = bnb.MatmulLtState()
    state.CB, state.SCB, _ = bnb.functional.int8_vectorwise_quant(torch.randn(8, 16).half())
    state.has_fp16_weights = False
    _functions.MatMul8bitLt.apply(torch.randn(4, 16), state.CB, None, None, state)
    _functions.logger.warning("something else")
    assert [r.getMessage() for r in caplog.records] == ["something else"]


def test_a_training_in_int8_with_checkpointing_learns(tmp_path: Path) -> None:
    recorder = Recorder()
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization="int8", dtype="bfloat16", parameters=10**5)
    settings = settings_of(max_steps=8, gradient_checkpointing=True)
    train_adapter(make_context(tmp_path, recorder), inputs, settings)
    losses = recorder.losses()
    assert sum(losses[-3:]) < sum(losses[:3])
