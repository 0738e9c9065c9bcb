"""Computes head and loss in chunks of labels, without storing all (labels × vocabulary) logits.

With a vocabulary of 150,000 the logits, their softmax and their gradient are the largest tensors of
a step. Here the gradient with respect to the hidden states is computed together with the loss,
chunk by chunk, and only this gradient is kept; a frozen head needs no other. ``sft.choose_head``
tests which models support this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from studio.training.model.wide_products import WideLinear

CHUNK_ELEMENTS = 1 << 24
"""Logits per chunk: 64 MiB in float32. Smaller chunks are slower, larger ones hardly faster."""

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def frozen_head(model: Any) -> Any | None:
    """The model's output layer if it is a plain frozen matrix, otherwise ``None``.

    Not in float16: small gradients need the loss scaling, which is applied later.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None or weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    return None if any(p.requires_grad for p in head.parameters()) else head


def worth_it(labels: int, head: Any) -> bool:
    """Whether the logits take more than one chunk."""
    return bool(labels * head.weight.shape[0] > CHUNK_ELEMENTS)


@contextmanager
def without_head(head: Any) -> Iterator[None]:
    """Within the block the head returns its input, so that the model returns hidden states."""
    before = head.__dict__.get("forward")
    head.forward = lambda hidden: hidden
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before


def chunked_loss(
    hidden: torch.Tensor, head: Any, wanted: torch.Tensor, weights: torch.Tensor | None, loss: Loss
) -> torch.Tensor:
    """``loss(head(hidden), wanted, weights)`` summed over chunks; ``hidden`` is (labels, size)."""
    rows = max(1, CHUNK_ELEMENTS // head.weight.shape[0])
    if type(head) is not WideLinear:
        hidden = hidden.to(head.weight.dtype)  # autocast returns float32
    total: torch.Tensor = _ChunkedLoss.apply(hidden, head, wanted, weights, loss, rows)
    return total


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: Any,
        wanted: torch.Tensor,
        weights: torch.Tensor | None,
        loss: Loss,
        rows: int,
    ) -> torch.Tensor:
        needed = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if needed else None
        total = torch.zeros((), device=hidden.device)
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            piece = hidden[part].detach().requires_grad_(needed)
            with torch.set_grad_enabled(needed):
                found = loss(head(piece), wanted[part], None if weights is None else weights[part])
            if gradient is not None:
                (gradient[part],) = torch.autograd.grad(found, piece)
            total += found.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None, None
