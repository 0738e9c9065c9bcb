"""Compares the replaced functions with the plain ones before they train, on rows of the training.

Both compute loss and gradients of the same tokens from the same weights and random numbers. The adapter's B is zero at
the start, so that A would have no gradient and a wrong scale no effect: it gets random values for the comparison. A
wrong factor, a transposed matrix or a missing term changes a gradient by far more than another order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from studio.training.fused.swap import Fused

LIMITS = {torch.float32: 1e-3}
"""The largest difference of a gradient, relative to its norm, by the precision of the products."""
LIMIT_HALF = 0.1
"""In half precision two orders of the same sums differ by some percent in a gradient."""
_SEED = 5


@dataclass(frozen=True)
class Difference:
    """The largest relative difference of the loss and of a parameter's gradient; ``parameter`` is its name."""

    loss: float
    gradient: float
    parameter: str
    limit: float

    @property
    def is_same(self) -> bool:
        """Whether both are rounding."""
        return self.loss <= self.limit and self.gradient <= self.limit  # false for NaN, too


def compare(
    model: Any,
    fuse: Callable[[Any], Fused],
    loss: Callable[[], torch.Tensor],
    dtype: torch.dtype,
) -> tuple[Fused, Difference]:
    """Fuse ``model``, and compare it with itself before. ``loss()`` is that of one batch, with its graph, and may draw
    random numbers; ``dtype`` is the precision of matrix products. Weights, gradients and random numbers are as before
    when this returns; the model is fused."""
    limit = LIMITS.get(dtype, LIMIT_HALF)
    fused = fuse(model)
    if not fused:
        return fused, Difference(0.0, 0.0, "", limit)
    fused.undo()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    kept = {n: p.detach().clone() for n, p in trained.items()}
    devices = sorted({p.device.index or 0 for p in trained.values() if p.device.type == "cuda"})
    try:
        _randomize(trained)
        with torch.random.fork_rng(devices):
            plain_loss, plain = _gradients(loss, trained)
        fused = fuse(model)
        with torch.random.fork_rng(devices):
            fused_loss, found = _gradients(loss, trained)
    except BaseException:
        fused.undo()
        raise
    finally:
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(kept[name])
    worst, name = _largest(plain, found)
    return fused, Difference(_relative(fused_loss - plain_loss, plain_loss), worst, name, limit)


def _randomize(trained: dict[str, torch.nn.Parameter]) -> None:
    """Give matrices that are zero values as large as those of a trained adapter."""
    draw = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in trained.values():
            if not parameter.any():
                values = torch.randn(parameter.shape, generator=draw) * 0.02
                parameter.copy_(values.to(parameter.device, parameter.dtype))


def _gradients(
    loss: Callable[[], torch.Tensor], trained: dict[str, torch.nn.Parameter]
) -> tuple[float, dict[str, torch.Tensor | None]]:
    found = loss()
    grads = torch.autograd.grad(found, list(trained.values()), allow_unused=True)
    return float(found.detach()), dict(zip(trained, grads, strict=True))


def _largest(
    plain: dict[str, torch.Tensor | None], found: dict[str, torch.Tensor | None]
) -> tuple[float, str]:
    worst, where = 0.0, ""
    for name, wanted in plain.items():
        made = found[name]
        if wanted is None and made is None:
            continue
        if wanted is None or made is None:
            return math.inf, name
        difference = _relative(float((made - wanted).norm()), float(wanted.norm()))
        if not difference <= worst:  # NaN, too
            worst, where = difference, name
        if math.isnan(worst):
            break
    return worst, where


def _relative(difference: float, size: float) -> float:
    return abs(difference) / size if size else (math.inf if difference else 0.0)
