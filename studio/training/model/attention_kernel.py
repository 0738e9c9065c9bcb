"""Attention with fewer key heads than query heads (GQA), in a kernel whose memory does not grow with the square
of the length.

torch selects the kernel by device, precision and shape. On a GPU in float32, or older than Ampere, none of the
fused kernels may take fewer key heads, and torch then stores the full (heads, length, length) scores without a
word. So torch is asked which kernel it would use; if that is the one with full scores, keys and values are repeated
for every head, which the other kernels take. The function replaces ``sdpa`` of transformers. Read in the sources of
torch; not measured on a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.attention import SDPBackend
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward


def register_attention() -> None:
    """Let models with the attention ``sdpa`` use ``fused_attention``."""
    AttentionInterface.register("sdpa", fused_attention)


def fused_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` (rows, heads, tokens, size), ``key`` and ``value`` with their own heads; gives (rows, tokens,
    heads, size). With a mask transformers repeats them itself."""
    groups = int(getattr(module, "num_key_value_groups", 1) or 1)
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    if groups > 1 and attention_mask is None and more.get("cache") is None:
        query, key, value = (in_autocast(t) for t in (query, key, value))
        if not takes_fewer_keys(query, key, value, dropout, causal and query.shape[2] > 1):
            key, value = repeat_kv(key, groups), repeat_kv(value, groups)
            module = SimpleNamespace(num_key_value_groups=1)
    found: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout, scaling, causal, **more
    )
    return found


def takes_fewer_keys(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, causal: bool
) -> bool:
    """Whether torch has a fused kernel for these tensors as they are. On a CPU it has."""
    if not query.is_cuda:
        return True
    chosen = torch._fused_sdp_choice(query, key, value, None, dropout, causal, enable_gqa=True)
    return int(chosen) != SDPBackend.MATH.value


def in_autocast(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the precision in which attention computes under autocast."""
    kind = tensor.device.type
    if not torch.is_autocast_enabled(kind):
        return tensor
    return tensor.to(torch.get_autocast_dtype(kind))
