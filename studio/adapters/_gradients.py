"""Gradients of A and B, changed before the optimizer takes them.

Both rules need only r × r matrices. They keep nothing between steps, so they go with every optimizer
and resume without a state of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DAMPING = 1e-6


def _pairs(model: Any) -> Iterator[tuple[Any, Any, float]]:
    """A (r, in), B (out, r) and scale of every adapted layer."""
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            yield (
                layer.lora_A["default"].weight, layer.lora_B["default"].weight,
                float(layer.scaling["default"]),
            )  # fmt: skip


def _inverse(gram: Any) -> Any:
    """(r, r) inverse of a damped Gram matrix, in float32."""
    import torch

    gram = gram.float()
    damping = _DAMPING * torch.eye(gram.shape[0], device=gram.device)
    return torch.linalg.pinv(gram + damping, hermitian=True)


def project_b_gradients(model: Any, step: int) -> None:
    """LoRA-FA: g_B becomes g_B (A Aᵀ)⁻¹ / s², the B whose s B A is nearest to the full gradient
    (arXiv:2308.03303, equation 6)."""
    import torch

    del step
    with torch.no_grad():
        for a, b, scale in _pairs(model):
            if b.grad is not None:
                b.grad.copy_((b.grad.float() @ _inverse(a @ a.T)) / scale**2)


def precondition_gradients(model: Any, step: int) -> None:
    """Riemannian LoRA: g_A becomes (Bᵀ B)⁻¹ g_A, and g_B becomes g_B (A Aᵀ)⁻¹ (arXiv:2402.02347).

    B is zero in the first step, where its inverse says nothing: A keeps its gradient, which is zero.
    """
    import torch

    del step
    with torch.no_grad():
        for a, b, _ in _pairs(model):
            if a.grad is None or b.grad is None:
                continue
            right = _inverse(a @ a.T)
            if bool(b.any()):
                a.grad.copy_(_inverse(b.T @ b) @ a.grad.float())
            b.grad.copy_(b.grad.float() @ right)
