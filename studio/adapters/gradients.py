"""Modifies the gradients of A and B before the optimizer step.

Both rules need only r × r matrices. They have no state between steps, so they work with every
optimizer and resume.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DAMPING = 1e-6


def _pairs(model: Any) -> Iterator[tuple[Any, Any, float, int]]:
    """A (experts · r, in), B (out, r · experts), scale and number of experts of every adapted
    layer; a plain layer counts as one expert.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            yield (
                layer.lora_A["default"].weight,
                layer.lora_B["default"].weight,
                float(layer.scaling["default"]),
                int(getattr(layer, "num_experts", 1)),
            )


def _each_a(a: Any, experts: int) -> Any:
    """A or its gradient by expert, in PEFT's layout: (experts, r, in)."""
    return a.reshape(experts, -1, a.shape[-1])


def _each_b(b: Any, experts: int) -> Any:
    """B or its gradient by expert: (experts, out, r)."""
    return b.reshape(b.shape[0], -1, experts).permute(2, 0, 1)


def _joined_b(b: Any) -> Any:
    """The inverse of ``_each_b``."""
    return b.permute(1, 2, 0).reshape(b.shape[1], -1)


def _inverse(gram: Any) -> Any:
    """(experts, r, r) inverses of damped Gram matrices, in float32."""
    import torch

    gram = gram.float()
    damping = _DAMPING * torch.eye(gram.shape[-1], device=gram.device)
    return torch.linalg.pinv(gram + damping, hermitian=True)


def project_b_gradients(model: Any, step: int) -> None:
    """LoRA-FA: g_B becomes g_B (A Aᵀ)⁻¹ / s², the B for which s B A is nearest to the full gradient
    (arXiv:2308.03303, equation 6).
    """
    import torch

    del step
    with torch.no_grad():
        for a, b, scale, experts in _pairs(model):
            if b.grad is not None:
                rows = _each_a(a, experts)
                projected = _each_b(b.grad.float(), experts) @ _inverse(rows @ rows.mT)
                b.grad.copy_(_joined_b(projected) / scale**2)


def precondition_gradients(model: Any, step: int) -> None:
    """Riemannian LoRA: g_A becomes (Bᵀ B)⁻¹ g_A, and g_B becomes g_B (A Aᵀ)⁻¹ (arXiv:2402.02347).

    In the first step B is zero and has no inverse: A keeps its gradient, which is zero.
    """
    import torch

    del step
    with torch.no_grad():
        for a, b, _, experts in _pairs(model):
            if a.grad is None or b.grad is None:
                continue
            rows, columns = _each_a(a, experts), _each_b(b, experts)
            right = _inverse(rows @ rows.mT)
            if bool(b.any()):
                left = _inverse(columns.mT @ columns) @ _each_a(a.grad.float(), experts)
                a.grad.copy_(left.reshape(a.shape))
            b.grad.copy_(_joined_b(_each_b(b.grad.float(), experts) @ right))
