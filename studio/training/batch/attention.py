"""Attention over rows that lie one after the other in one sequence: each row sees only itself.

Why: a block-diagonal mask costs the square of the whole length; attention per row costs each row's
own square, and builds no mask. The functions are registered with transformers, so every model that
asks its interface for attention uses them. What the mask is asked for is handed to the layers in
the mask's place, so that nothing has to travel through a model's keyword arguments and gradient
checkpointing repeats it. A model for which this does not work is found out by ``isolation``; this
module must not decide that.
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
    """The lengths of the rows in a sequence; ``borders`` (rows + 1) are their ends on the device."""

    lengths: tuple[int, ...]
    borders: torch.Tensor

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)


_laid: ContextVar[Segments | None] = ContextVar("rows_of_the_sequence", default=None)


@contextmanager
def rows_laid(lengths: Sequence[int] | None, device: torch.device) -> Iterator[None]:
    """Within the block, sequences hold rows of these lengths; None: nothing special."""
    if lengths is None:
        yield
        return
    ends = [0, *itertools.accumulate(lengths)]
    before = _laid.set(
        Segments(tuple(lengths), torch.tensor(ends, dtype=torch.int32, device=device))
    )
    try:
        yield
    finally:
        _laid.reset(before)


def use_row_attention(model: Any) -> bool:
    """Switch a model from masked attention to attention per row; False when it cannot be switched.

    Only plain ``sdpa`` is replaced: flash attention reads the rows from the position ids by itself,
    and a model that runs eagerly needs its own arithmetic (capped scores, for instance).
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
    """Back to plain ``sdpa``, where rows are kept apart by a block-diagonal mask."""
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
    """The rows, where plain causal attention within each is all that is asked for; else a mask.

    A window (``local_size``) changes nothing for rows that fit into it.
    """
    rows = _laid.get()
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
