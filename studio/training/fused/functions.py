"""Parts of a decoder layer as autograd functions that compute and save no more than their gradients need.

Each replaces several operations of transformers and PEFT with the same result, except for the order of sums. Base
weights are frozen and get no gradient. An input of shape (..., in) is taken as (tokens, in); ``W`` is (out, in),
``A`` (r, in) and ``B`` (out, r), as in PEFT (Hu et al. 2021, arXiv:2106.09685, section 4.1). Under autocast, matrix
products have its precision, and gradients of adapters that of their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from studio.training.model.attention_kernel import in_autocast


class Linear(NamedTuple):
    """``x Wᵀ + bias + scale · x Aᵀ Bᵀ``; a layer without adapter has no ``A`` and ``B``."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    a: torch.Tensor | None
    b: torch.Tensor | None
    scale: float


_TENSORS = 4
"""Tensors of a ``Linear``; autograd needs each as an argument of its own."""


class Grad(NamedTuple):
    """The gradients of a ``Linear``'s arguments, ``None`` for what is frozen."""

    weight: None
    bias: None
    a: torch.Tensor | None
    b: torch.Tensor | None


_NO_GRAD = Grad(None, None, None, None)


def _stacked(layers: Sequence[Linear], like: torch.Tensor) -> torch.Tensor | None:
    """The ``A`` of all layers as one matrix (sum of r, in): thin products are faster together."""
    found = [layer.a.to(like.dtype) for layer in layers if layer.a is not None]
    return torch.cat(found) if len(found) > 1 else found[0] if found else None


def _outputs(
    x: torch.Tensor, layers: Sequence[Linear]
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The outputs of layers with the same input (tokens, in), and ``x Aᵀ`` of all (tokens, sum of r)."""
    stacked = _stacked(layers, x)
    inner = None if stacked is None else torch.mm(x, stacked.t())
    made, first = [], 0
    for layer in layers:
        weight = layer.weight.to(x.dtype)
        if layer.bias is None:
            y = torch.mm(x, weight.t())
        else:
            y = torch.addmm(layer.bias.to(x.dtype), x, weight.t())
        if layer.b is not None:
            assert inner is not None
            part = inner[:, first : first + layer.b.shape[1]]
            first += layer.b.shape[1]
            y.addmm_(part, layer.b.to(x.dtype).t(), alpha=layer.scale)
        made.append(y)
    return made, inner


def _gradients(
    upstream: Sequence[torch.Tensor],
    x: torch.Tensor,
    inner: torch.Tensor | None,
    layers: Sequence[Linear],
    wants_input: bool,
) -> tuple[torch.Tensor | None, list[Grad]]:
    """Gradients of the common input and of every layer, from those of the outputs (tokens, out)."""
    stacked = _stacked(layers, x)
    d_inner = None if inner is None else torch.empty_like(inner)
    dx: torch.Tensor | None = None
    grads, first = [], 0
    for dy, layer in zip(upstream, layers, strict=True):
        if wants_input:
            weight = layer.weight.to(dy.dtype)
            dx = torch.mm(dy, weight) if dx is None else dx.addmm_(dy, weight)
        if layer.b is None:
            grads.append(_NO_GRAD)
            continue
        assert d_inner is not None
        assert inner is not None
        part = slice(first, first + layer.b.shape[1])
        first = part.stop
        d_inner[:, part] = torch.mm(dy, layer.b.to(dy.dtype)).mul_(layer.scale)
        db = torch.mm(dy.t(), inner[:, part]).mul_(layer.scale)
        grads.append(Grad(None, None, None, db.to(layer.b.dtype)))
    if d_inner is not None:
        assert stacked is not None
        if dx is not None:
            dx.addmm_(d_inner, stacked)
        da = torch.mm(d_inner.t(), x)
        first = 0
        for i, layer in enumerate(layers):
            if layer.a is not None:
                rows = slice(first, first + len(layer.a))
                first = rows.stop
                grads[i] = grads[i]._replace(a=da[rows].to(layer.a.dtype))
    return dx, grads


def _layers(tensors: Sequence[Any], scales: Sequence[float]) -> list[Linear]:
    made = []
    for i, scale in enumerate(scales):
        weight, bias, a, b = tensors[_TENSORS * i : _TENSORS * (i + 1)]
        made.append(Linear(weight, bias, a, b, scale))
    return made


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1])


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scales: tuple[float, ...], *tensors: Any) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            flat = _flat(x)
            made, inner = _outputs(flat, _layers(tensors, scales))
        ctx.scales, ctx.shape = scales, x.shape
        ctx.save_for_backward(flat, inner, *tensors)
        return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        flat, inner, *tensors = ctx.saved_tensors
        with torch.autocast(flat.device.type, enabled=False):
            dx, grads = _gradients(
                [_flat(dy) for dy in upstream],
                flat,
                inner,
                _layers(tensors, ctx.scales),
                ctx.needs_input_grad[0],
            )
        flattened = [gradient for grad in grads for gradient in grad]
        return None if dx is None else dx.view(ctx.shape), None, *flattened


def linears(x: torch.Tensor, layers: Sequence[Linear]) -> tuple[torch.Tensor, ...]:
    """The outputs of layers that have the input ``x`` (..., in) in common: query, key and value, or one alone."""
    x = in_autocast(x)
    tensors = [tensor for layer in layers for tensor in layer[:_TENSORS]]
    made: tuple[torch.Tensor, ...] = _Linears.apply(x, tuple(n.scale for n in layers), *tensors)
    return made


ACTIVATIONS = ("silu", "gelu_pytorch_tanh")
"""Those of gated MLPs, as transformers calls them."""


def activate(kind: str, x: torch.Tensor) -> torch.Tensor:
    """The activation function ``kind``."""
    return functional.silu(x) if kind == "silu" else functional.gelu(x, approximate="tanh")


def _activation_gradient(kind: str, upstream: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    aten = torch.ops.aten
    if kind == "silu":
        return aten.silu_backward(upstream, x)
    return aten.gelu_backward(upstream, x, approximate="tanh")


class _GatedMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kind: str, scales: tuple[float, ...], *tensors: Any
    ) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            flat = _flat(x)
            *both, down = _layers(tensors, scales)
            (gate, up), inner = _outputs(flat, both)
            (y,), last = _outputs(activate(kind, gate).mul_(up), [down])
        ctx.kind, ctx.scales, ctx.shape = kind, scales, x.shape
        ctx.save_for_backward(flat, gate, up, inner, last, *tensors)
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        flat, gate, up, inner, last, *tensors = ctx.saved_tensors
        with torch.autocast(flat.device.type, enabled=False):
            *both, down = _layers(tensors, ctx.scales)
            active = activate(ctx.kind, gate)
            dm, of_down = _gradients([_flat(upstream)], active * up, last, [down], True)
            assert dm is not None
            d_up = active.mul_(dm)
            d_gate = _activation_gradient(ctx.kind, dm.mul_(up), gate)
            dx, of_both = _gradients([d_gate, d_up], flat, inner, both, ctx.needs_input_grad[0])
        flattened = [gradient for grad in (*of_both, *of_down) for gradient in grad]
        return None if dx is None else dx.view(ctx.shape), None, None, *flattened


def gated_mlp(x: torch.Tensor, kind: str, layers: Sequence[Linear]) -> torch.Tensor:
    """``down(f(gate(x)) · up(x))`` (Shazeer 2020, arXiv:2002.05202), with ``layers`` gate, up and down, and f
    ``silu`` or ``gelu_pytorch_tanh``. Of the four large tensors of this expression, two are saved; the others are
    computed again without a matrix product."""
    x = in_autocast(x)
    tensors = [tensor for layer in layers for tensor in layer[:_TENSORS]]
    made: torch.Tensor = _GatedMlp.apply(x, kind, tuple(n.scale for n in layers), *tensors)
    return made


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        factor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return (wide * factor).mul_(weight.float()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        x, weight, factor = ctx.saved_tensors
        wide = x.float()
        scaled = upstream.float() * weight.float()
        along = (scaled * wide).sum(-1, keepdim=True).mul_(factor.pow(3)).div_(-x.shape[-1])
        return torch.addcmul(scaled.mul_(factor), wide, along).to(x.dtype), None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``weight · x / sqrt(mean(x²) + eps)`` over the last dimension, computed in float32 (Zhang and Sennrich 2019,
    arXiv:1910.07467). ``weight`` is frozen."""
    made: torch.Tensor = _RmsNorm.apply(x, weight, eps)
    return made
