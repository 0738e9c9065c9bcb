"""How far each adapted layer has moved, and how many directions that took.

ΔW = s·B·A has at most r singular values. With B = Q_b R_b and Aᵀ = Q_a R_a (thin QR), they are those of
the small matrix s·R_b R_aᵀ (r, r), because Q_b and Q_a have orthonormal columns: no matrix of the
layer's size is ever built. Nothing here changes a weight or draws a random number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from studio.runs.insight import ENERGY, Insight, ModuleUse

_ADAPTER = "default"
_PREFIX = "base_model.model."


def singular_values(a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """Singular values (r,) of scale·b·a, largest first; ``a`` is (r, in), ``b`` is (out, r). NaN where
    the matrices hold what is no number: LAPACK would raise."""
    _, of_b = torch.linalg.qr(b.float(), mode="r")
    _, of_a = torch.linalg.qr(a.float().T, mode="r")
    small = of_b @ of_a.T
    if not small.isfinite().all():
        return small.new_full((min(small.shape),), torch.nan)
    return abs(scale) * torch.linalg.svdvals(small)


def _matrix(factor: Any) -> torch.Tensor:
    """A or B as a whole matrix; BD-LoRA keeps the blocks of its diagonal alone."""
    blocks = getattr(factor, "weight_as_blockdiagonal_matrix", None)
    found: torch.Tensor = blocks() if blocks else factor.weight
    return found


def directions_used(values: torch.Tensor, share: float = ENERGY) -> int:
    """How many of the largest singular values hold ``share`` of the squared sum."""
    energy = values.double().square()
    total = float(energy.sum())
    if total <= 0:
        return 0
    held = torch.cumsum(energy, 0) / total
    return int((held < share - 1e-12).sum()) + 1


class InsightMeter:
    """Measures one model again and again; the norms of its frozen weights are taken once.

    ``start`` holds the first A and B of a method that takes its start out of the base (by parameter
    name): the change is measured from there.
    """

    def __init__(self, model: Any, start: Mapping[str, torch.Tensor] | None = None) -> None:
        self._model = model
        self._start = dict(start or {})
        self._base_norms: dict[str, float | None] = {}

    @property
    def possible(self) -> bool:
        """Whether the model has layers with A and B at all."""
        return next(self._layers(), None) is not None

    @torch.no_grad()
    def measure(self, step: int) -> Insight:
        """The state after ``step`` optimizer steps, without layers whose weights are no numbers."""
        rows = [self._use(name, layer) for name, layer in self._layers()]
        return Insight(step, tuple(row for row in rows if math.isfinite(row.norm)))

    def _layers(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            matrices: Any = getattr(module, "lora_A", None)
            known = isinstance(matrices, torch.nn.ModuleDict) and _ADAPTER in matrices
            if not known or matrices[_ADAPTER].weight.dim() != 2:
                continue
            if hasattr(module.get_base_layer(), "weight"):  # not experts, joined in one tensor
                yield name, module

    def _use(self, name: str, layer: Any) -> ModuleUse:
        a, b = _matrix(layer.lora_A[_ADAPTER]), _matrix(layer.lora_B[_ADAPTER])
        scale, r = float(layer.scaling[_ADAPTER]), int(a.shape[0])
        first = self._start.get(f"{name}.lora_A.{_ADAPTER}.weight")
        if first is not None:
            start_b = self._start[f"{name}.lora_B.{_ADAPTER}.weight"]
            a = torch.cat([a, first.to(a)])
            b = torch.cat([b, -start_b.to(b)], dim=1)
        values = singular_values(a, b, scale)
        norm = float(values.square().sum().sqrt())
        plain = name.removeprefix(_PREFIX)
        base = self._base_norm(name, layer)
        return ModuleUse(plain, norm, norm / base if base else None, directions_used(values), r)

    def _base_norm(self, name: str, layer: Any) -> float | None:
        """The Frobenius norm of the frozen weight; quantized ones are not unpacked for it."""
        if name not in self._base_norms:
            weight = layer.get_base_layer().weight
            readable = weight.is_floating_point() and weight.dim() == 2
            norm = (
                float(torch.linalg.vector_norm(weight, dtype=torch.float32)) if readable else None
            )
            self._base_norms[name] = norm
        return self._base_norms[name]
