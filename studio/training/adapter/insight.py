"""Measures how much each adapted layer has changed, and the rank of the change.

ΔW = s·B·A has at most r singular values. With B = Q_b R_b and Aᵀ = Q_a R_a (thin QR), they are
those of the small matrix s·R_b R_aᵀ (r, r), because Q_b and Q_a have orthonormal columns: no matrix
of the layer's size is built. Measuring changes no weight and draws no random number.
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
    """Singular values (r,) of scale·b·a in descending order; ``a`` is (r, in), ``b`` is (out, r).

    NaN if a matrix has non-finite values, for which LAPACK would raise.
    """
    _, of_b = torch.linalg.qr(b.float(), mode="r")
    _, of_a = torch.linalg.qr(a.float().T, mode="r")
    small = of_b @ of_a.T
    if not small.isfinite().all():
        return small.new_full((min(small.shape),), torch.nan)
    return abs(scale) * torch.linalg.svdvals(small)


def _matrix(factor: Any) -> torch.Tensor:
    """A or B as one matrix; the blocks of BD-LoRA are placed on its diagonal."""
    blocks = getattr(factor, "weight_as_blockdiagonal_matrix", None)
    found: torch.Tensor = blocks() if blocks else factor.weight
    return found


def directions_used(values: torch.Tensor, share: float = ENERGY) -> int:
    """The number of largest singular values that hold ``share`` of the squared sum."""
    energy = values.double().square()
    total = float(energy.sum())
    if total <= 0:
        return 0
    held = torch.cumsum(energy, 0) / total
    return int((held < share - 1e-12).sum()) + 1


class InsightMeter:
    """Measures one model repeatedly; the norms of its frozen weights are computed once.

    ``start`` holds the initial A and B, by parameter name, of a method that is initialized from the
    base: the change is measured relative to them.
    """

    def __init__(self, model: Any, start: Mapping[str, torch.Tensor] | None = None) -> None:
        self._model = model
        self._start = dict(start or {})
        self._base_norms: dict[str, float | None] = {}

    @property
    def possible(self) -> bool:
        """Whether the model has layers with A and B."""
        return next(self._layers(), None) is not None

    @torch.no_grad()
    def measure(self, step: int) -> Insight:
        """The change after ``step`` optimizer steps; layers with non-finite weights are omitted."""
        rows = [self._use(name, layer) for name, layer in self._layers()]
        return Insight(step, tuple(row for row in rows if math.isfinite(row.norm)))

    def _layers(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            matrices: Any = getattr(module, "lora_A", None)
            known = isinstance(matrices, torch.nn.ModuleDict) and _ADAPTER in matrices
            if not known or matrices[_ADAPTER].weight.dim() != 2:
                continue
            if hasattr(module.get_base_layer(), "weight"):  # joined experts have none
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
        """The Frobenius norm of the frozen weight; ``None`` for quantized weights, which are not
        dequantized for it.
        """
        if name not in self._base_norms:
            weight = layer.get_base_layer().weight
            readable = weight.is_floating_point() and weight.dim() == 2
            norm = (
                float(torch.linalg.vector_norm(weight, dtype=torch.float32)) if readable else None
            )
            self._base_norms[name] = norm
        return self._base_norms[name]
