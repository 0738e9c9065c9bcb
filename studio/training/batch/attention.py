"""Attention within each row of a padding-free sequence.

The cost of a block-diagonal mask grows with the square of the sequence length; attention per row grows
with the square of each row's length and builds no mask. The functions are registered with transformers,
so every model that uses its attention interface can use them. The row boundaries take the place of the
mask: they need no keyword argument of the model, and gradient checkpointing repeats them. Whether a model
supports this is tested by ``batching``, not here.

On a GPU with FlashAttention (Ampere or newer) one kernel computes all rows, in half precision; elsewhere, and for
rows longer than a sliding window, there is one call per row. ``USED`` counts both, so that a test notices when the
kernel is not used. Not measured on a GPU.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from studio.training.model.attention_kernel import fused_attention, in_autocast

NAME = "lora_studio_rows"
"""The name under which transformers knows these functions."""

USED: Counter[str] = Counter()
"""Calls of the attention of padding-free rows: ``varlen`` (one kernel), ``rows`` (row by row), ``mask``."""

_HALF = (torch.float16, torch.bfloat16)
_NO_ROWS_OF_THEIR_OWN = ("position_bias", "softcap", "s_aux")  # terms that span the whole sequence


@dataclass(frozen=True)
class Segments:
    """The lengths of the rows in a sequence; ``borders`` (rows + 1) are their boundaries on the device. ``masks``
    holds a mask (1, 1, row, row) for each row, where causal attention within it is not sufficient."""

    lengths: tuple[int, ...]
    borders: torch.Tensor
    masks: tuple[torch.Tensor, ...] | None = None

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


def needs_mask(model: Any) -> bool:
    """Whether only a mask over the whole sequence keeps rows of this model apart, and not its attention."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base.config, "_attn_implementation", None) in (None, "sdpa", "eager")


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
    """The row boundaries, with a mask of its own for each row where causal attention within it is not
    sufficient, and one mask for the sequence without rows.

    A sliding window (``local_size``) has no effect on rows that fit into it.
    """
    rows = _segments.get()
    if rows is None or use_vmap or not sum(rows.lengths) == q_length == kv_length:
        return sdpa_mask(
            q_length=q_length, kv_length=kv_length, local_size=local_size, use_vmap=use_vmap, **more
        )
    if local_size is None or rows.longest <= local_size:
        return rows
    begins = itertools.accumulate(rows.lengths, initial=0)
    options = {**more, "allow_is_causal_skip": False, "local_size": local_size}
    for name in ("q_offset", "kv_offset"):
        options.pop(name, None)
    masks = (
        sdpa_mask(q_length=n, kv_length=n, q_offset=begin, kv_offset=begin, **options)
        for n, begin in zip(rows.lengths, begins, strict=False)
    )
    return replace(rows, masks=tuple(masks))


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
        if _segments.get() is not None:
            USED["mask"] += 1
        return fused_attention(module, query, key, value, attention_mask, dropout, scaling, **more)
    if any(more.get(name) is not None for name in _NO_ROWS_OF_THEIR_OWN):
        raise ValueError("this attention has terms that cannot be cut into rows")
    query, key, value = (in_autocast(t) for t in (query, key, value))
    masks = attention_mask.masks
    if not dropout and masks is None and has_varlen(query, key, value):
        USED["varlen"] += 1
        return _varlen(query, key, value, attention_mask, scaling), None
    USED["rows"] += 1
    parts = zip(*(t.split(attention_mask.lengths, dim=2) for t in (query, key, value)), strict=True)
    done = [
        fused_attention(module, q, k, v, mask, dropout, scaling, is_causal=mask is None)[0]
        for (q, k, v), mask in zip(parts, masks or itertools.repeat(None), strict=False)
    ]
    return done[0] if len(done) == 1 else torch.cat(done, dim=1), None


def has_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether the kernel for rows of different lengths takes these tensors: torch must contain it, and
    FlashAttention must support the GPU, precision and head size."""
    size = query.shape[-1]
    alike = query.dtype == key.dtype == value.dtype and query.dtype in _HALF
    if not query.is_cuda or not alike or size % 8 or value.shape[-1] != size:
        return False
    wanted = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, True, True)
    return bool(_varlen_arguments()) and torch.backends.cuda.can_use_flash_attention(wanted)


@functools.cache
def _varlen_arguments() -> frozenset[str]:
    """The arguments of torch's function, which differ between its versions; empty where there is none that can
    be causal."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    names = frozenset(inspect.signature(varlen_attn).parameters)
    return names if names & {"window_size", "is_causal"} else frozenset()


def _varlen_options(groups: bool) -> dict[str, Any]:
    """Causal attention, for fewer key heads where ``groups``, as arguments of this torch."""
    known = _varlen_arguments()
    causal = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    return {**causal, **({"enable_gqa": groups} if "enable_gqa" in known else {})}


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
        **_varlen_options(q.shape[1] != k.shape[1]),
    )
    assert isinstance(out, torch.Tensor)
    return out[None]
