"""Attention within each row of a padding-free sequence.

The cost of a block-diagonal mask grows with the square of the sequence length; attention per row grows
with the square of each row's length and builds no mask. The functions are registered with transformers,
so every model that uses its attention interface can use them. The row boundaries take the place of the
mask: they need no keyword argument of the model, and gradient checkpointing repeats them. Whether a model
supports this is tested by ``batching``, not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lora_studio_rows"
"""The name under which transformers knows these functions."""

_HALF = (torch.float16, torch.bfloat16)
_NO_ROWS_OF_THEIR_OWN = ("position_bias", "softcap", "s_aux")  # terms that span the whole sequence


@dataclass(frozen=True)
class Segments:
    """The lengths of the rows in a sequence; ``borders`` (rows + 1) are their boundaries on the device."""

    lengths: tuple[int, ...]
    borders: torch.Tensor

    @property
    def longest(self) -> int:
        """The number of tokens of the longest row."""
        return max(self.lengths)


_segments: ContextVar[Segments | None] = ContextVar("rows_of_the_sequence", default=None)


@contextmanager
def row_boundaries(lengths: Sequence[int] | None, device: torch.device) -> Iterator[None]:
    """Within the block, sequences consist of rows of these lengths; ``None`` changes nothing."""
    if lengths is None:
        yield
        return
    ends = [0, *itertools.accumulate(lengths)]
    before = _segments.set(
        Segments(tuple(lengths), torch.tensor(ends, dtype=torch.int32, device=device))
    )
    try:
        yield
    finally:
        _segments.reset(before)


def use_row_attention(model: Any) -> bool:
    """Switch a model from masked attention to attention per row; False if it does not support it.

    Only ``sdpa`` is replaced: flash attention takes the rows from the position ids, and eager attention
    may do more than standard attention (soft-capped scores, for instance).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(base.config, "_attn_implementation", None) != "sdpa":
        return False
    _register()
    try:
        base.set_attn_implementation(NAME)
    except (ValueError, KeyError, ImportError):
        return False
    return bool(base.config._attn_implementation == NAME)


def use_masked_attention(model: Any) -> None:
    """Switch back to ``sdpa``, where a block-diagonal mask keeps rows apart."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("sdpa")


def _register() -> None:
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(
    *,
    q_length: int,
    kv_length: int,
    local_size: int | None = None,
    use_vmap: bool = False,
    **more: Any,
) -> Any:
    """The row boundaries if causal attention within each row is sufficient, otherwise a mask.

    A sliding window (``local_size``) has no effect on rows that fit into it.
    """
    rows = _segments.get()
    if rows is not None and not use_vmap and sum(rows.lengths) == q_length == kv_length:
        within = local_size is None or rows.longest <= local_size
        if within:
            return rows
    return sdpa_mask(
        q_length=q_length, kv_length=kv_length, local_size=local_size, use_vmap=use_vmap, **more
    )


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` (1, heads, tokens, size), the others with their own heads; gives (1, tokens, heads,
    size)."""
    if not isinstance(attention_mask, Segments):
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return plain
    if any(more.get(name) is not None for name in _NO_ROWS_OF_THEIR_OWN):
        raise ValueError("this attention has terms that cannot be cut into rows")
    alike = query.dtype == key.dtype == value.dtype and query.dtype in _HALF
    if query.is_cuda and alike and not dropout:
        return _varlen(query, key, value, attention_mask, scaling), None
    parts = zip(*(t.split(attention_mask.lengths, dim=2) for t in (query, key, value)), strict=True)
    done = [
        sdpa_attention_forward(module, q, k, v, None, dropout, scaling, is_causal=True)[0]
        for q, k, v in parts
    ]
    return torch.cat(done, dim=1), None


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: Segments, scale: float | None
) -> torch.Tensor:
    """All rows in one kernel (Dao 2023, FlashAttention-2, as torch ships it)."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, size)
    out = varlen_attn(
        q,
        k,
        v,
        rows.borders,
        rows.borders,
        rows.longest,
        rows.longest,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out[None]
