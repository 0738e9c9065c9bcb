"""Weights that are stored in bfloat16 and multiplied in float32, on CPUs without units for bfloat16.

Such a CPU emulates products of bfloat16 and takes many times as long as in float32. Here the weights stay as they are
stored, in half the memory, and each is widened for the product that needs it; activations are float32. Widening is
exact, so the results are those of a base model in float32 whose weights were stored in bfloat16; only a factor that a
model applies to its embeddings (Gemma) is still rounded. A layer keeps its weight for the backward pass, not the wide
copy.

The class of a layer is replaced, not its ``forward``: PEFT copies layers, and a function would stay with the original.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

logger = logging.getLogger(__name__)

_TRIED_TOKENS = 4


class _Product(torch.autograd.Function):
    """``x Wᵀ`` for a frozen weight; ``W`` is (out, in)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(x, weight.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return upstream @ weight.to(upstream.dtype), None


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    x = x.float()
    if weight.requires_grad:
        y = functional.linear(x, weight.float())
    else:
        y = _Product.apply(x, weight)
    return y if bias is None else y + bias.float()


class WideLinear(torch.nn.Linear):
    """A linear layer whose products are in float32."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return _product(input, self.weight, self.bias)


class _WideConv1D(Conv1D):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _product(x, self.weight.t(), self.bias)


class _WideEmbedding(torch.nn.Embedding):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).float()


class _WideLayerNorm(torch.nn.LayerNorm):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight, bias = (None if t is None else t.float() for t in (self.weight, self.bias))
        return functional.layer_norm(input.float(), self.normalized_shape, weight, bias, self.eps)


_WIDE: dict[type, type] = {
    torch.nn.Linear: WideLinear,
    torch.nn.Embedding: _WideEmbedding,
    torch.nn.LayerNorm: _WideLayerNorm,
    Conv1D: _WideConv1D,
}


def multiply_in_float32(model: Any) -> bool:
    """Let a model whose weights are in bfloat16 compute in float32. False, and the model as it was, if one of its
    modules does not take float32 with these weights, such as joined experts."""
    undo = widen(model)
    ids = (
        torch.arange(_TRIED_TOKENS, device=model.device)[None]
        % model.config.get_text_config().vocab_size
    )
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            good = model(input_ids=ids, use_cache=False).logits.dtype == torch.float32
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        logger.info("Products in float32: %s: %s", type(error).__name__, error)
        good = False
    model.train(training)
    if not good:
        undo()
    return good


def widen(model: Any) -> Callable[[], None]:
    """Replace the layers of a model by those that multiply in float32; returns what undoes it."""
    _replace([m for m in model.modules() if type(m) in _WIDE], _WIDE)
    first = model.get_input_embeddings()
    hook = None if type(first) is _WideEmbedding else first.register_forward_hook(_widened)

    def undo() -> None:
        if hook is not None:
            hook.remove()
        narrow(model)

    return undo


def narrow(model: Any) -> None:
    """Let the layers of a model multiply in the precision of their weights again."""
    plain = {wide: plain for plain, wide in _WIDE.items()}
    _replace([m for m in model.modules() if type(m) in plain], plain)


def _widened(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
    """A hook for embeddings of a model's own class."""
    del module, given
    return output.float()


def _replace(modules: list[Any], classes: dict[type, type]) -> None:
    for module in modules:
        module.__class__ = classes[type(module)]


def multiplies_in_float32(model: Any) -> bool:
    """Whether ``multiply_in_float32`` has changed the model."""
    return any(type(m) is WideLinear for m in model.modules())


def computes_in_float32(model: Any) -> bool:
    """Whether products of weights are in float32: the weights are, or they are widened."""
    weights = next(p for p in model.parameters() if p.is_floating_point())
    return weights.dtype == torch.float32 or multiplies_in_float32(model)
