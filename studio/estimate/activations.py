"""The bytes that autograd stores for the backward pass of one decoder layer.

Each function covers one operation of transformers' models; the sum over a layer is the k of the
usual formulas. ``w`` is the width of the stream of activations in bytes. Checked to the byte
against a dry run (``studio.training.estimate.dry_run``) by
``tests/studio/estimate/test_dry_run.py``.

A frozen linear layer keeps nothing. A LoRA beside it keeps the input of A and of B. PEFT holds
adapters in float32: without autocast the input of A is a float32 copy, with autocast a copy in the
stream's width, one for each adapted layer; where the widths agree, layers that read the same tensor
share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from studio.estimate.trainable import Target
from studio.model.shapes import Linear, Shape

MASK_BYTES = 1
READS_ATTENTION = ("o_proj", "out_proj", "dense", "c_proj")


@dataclass(frozen=True)
class Mode:
    """How a step computes. ``weights`` and ``adapter`` are bytes per stored number; ``head`` says
    whether logits are made for label tokens only, and in parts when they are many; ``masked`` whether
    rows are padded, ``joined`` whether they share a sequence. ``plain`` is the model's own loss, which keeps
    its logits. ``repeats_keys``: no fused kernel takes fewer key heads than query heads
    (``studio.training.model.attention_kernel``). ``stored`` are the bytes per number of base weights that are
    widened to ``weights`` for each product (``studio.training.model.wide_products``); 0 where none are. ``fused``:
    the functions of ``studio.training.fused`` are used, which keep less."""

    weights: int = 2
    stored: int = 0
    adapter: int = 4
    autocast: bool = True
    quantization: str = "none"
    double_quant: bool = True
    checkpointing: bool = False
    head: Literal["chunks", "rows", "full", "plain"] = "rows"
    masked: bool = False
    dropout: float = 0.0
    device: Literal["cpu", "cuda"] = "cpu"
    full: bool = False
    repeats_keys: bool = False
    joined: bool = False
    fused: bool = False

    @property
    def stream(self) -> int:
        """Bytes per number of the activations between layers."""
        return 2 if self.full and self.autocast else self.weights

    @property
    def copies(self) -> int | None:
        """Bytes per number of the input copy that each adapter keeps; ``None`` where it is shared."""
        if self.full:
            return self.stream if self.autocast else None
        if self.adapter == self.weights or self.fused:
            return None
        if self.quantization != "none" and self.autocast and self.device == "cuda":
            return None  # PEFT leaves the cast to autocast there; on a CPU it does not
        return self.weights if self.autocast else self.adapter

    @property
    def inner(self) -> int:
        """Bytes per number between A and B."""
        return self.stream if self.autocast or self.full or self.fused else self.adapter


def layer_bytes(
    shape: Shape, targets: Sequence[Target], mode: Mode, tokens: int, length: int
) -> int:
    """Kept by one layer with these adapters for ``tokens`` tokens in rows of ``length``."""
    per_token = (
        _norms(shape, mode)
        + _attention(shape, mode, length)
        + _feed_forward(shape, targets, mode)
        + _adapters(shape, targets, mode)
        + _outputs(targets, mode)
        + _joined(shape, targets, mode)
        + _dropouts(shape, mode)
    )
    return tokens * per_token + _casts(targets, mode) + _matrices(targets, mode)


def _norms(shape: Shape, mode: Mode) -> int:
    """RMS norms keep their input in float32 and a root per row; layer norms the input itself, mean
    and root. Norms of queries and keys do the same."""
    if shape.norm == "layer":
        return shape.kept_norms * mode.weights * shape.hidden + shape.norms * 2 * mode.weights
    wide = mode.stream if mode.fused else 4
    kept = shape.norms * (wide * shape.hidden + 4)
    if mode.full:  # the weights' own gradient needs the normalised input too
        kept += shape.norms * mode.weights * shape.hidden
    if shape.qk_norm:
        kept += wide * (shape.query + shape.key_value) + 4 * shape.qk_roots
        kept += mode.stream * (shape.query + shape.key_value) if mode.full else 0
    return kept


def _attention(shape: Shape, mode: Mode, length: int) -> int:
    """Queries, keys, values, the output, and a float32 sum per head. Keys and values are repeated for every
    head with a padding mask, of which torch makes one in the stream's width, and where no kernel takes
    fewer."""
    w, keys = mode.stream, shape.key_value
    repeated = mode.masked or mode.repeats_keys or shape.eager_attention
    if repeated and shape.heads != shape.kv_heads:
        keys = shape.query
    kept = w * (2 * shape.query + 2 * keys) + 4 * shape.heads
    if shape.fused_qkv and shape.rotary and keys == shape.key_value:
        kept += w * (shape.query + shape.key_value)  # values are a part of the joined tensor
    if shape.eager_attention:
        kept += shape.heads * length * (2 * w + (4 if w == 2 else 0)) - 4 * shape.heads
    elif mode.masked:
        kept += w * length
    return kept


def _joined(shape: Shape, targets: Sequence[Target], mode: Mode) -> int:
    """Rows whose attention is computed one by one: what it keeps are the rows, and what is read next is their copy
    in one tensor. One kernel for all rows (``studio.training.batch.attention``) makes no copy."""
    if not mode.joined or (mode.device == "cuda" and not mode.repeats_keys):
        return 0
    reads = any(_is_output(t.linear.name) and t.kept.reads for t in targets)
    kept = mode.full or (reads and mode.copies is None and not mode.dropout)
    return mode.stream * shape.query if kept else 0


def _feed_forward(shape: Shape, targets: Sequence[Target], mode: Mode) -> int:
    """Gated: gate, its activation, and up; fused without the activation. Plain: what the activation's derivative
    needs."""
    w, inner = mode.stream, shape.feed_forward * shape.experts_active
    if fuses_mlp(targets, mode):
        return 2 * w * inner
    if shape.gated:
        return 3 * w * inner
    return w * inner * {"gelu_new": 4, "gelu_fast": 4, "relu": 1}.get(shape.activation, 1)


def fuses_mlp(targets: Sequence[Target], mode: Mode) -> bool:
    """Whether the gated MLP with these adapters is computed by one function."""
    return mode.fused and any(_place(t.linear.name) != "attention" for t in targets)


def _adapters(shape: Shape, targets: Sequence[Target], mode: Mode) -> int:
    """Inputs of A and of B. Dropout makes an input of its own for each A, and keeps its noise."""
    middle = sum(mode.inner * _middle(t) for t in targets)
    reading = [t for t in targets if t.kept.reads]
    if mode.fused:  # what the last matrix of an MLP reads is computed again
        reading = [t for t in reading if not is_down(shape, t.linear)]
    if mode.dropout and not mode.full:
        return middle + (mode.inner + _noise(mode)) * sum(t.linear.width_in for t in reading)
    if mode.copies is not None:
        widths = ((mode.adapter if t.kept.reads_wide else mode.copies) for t in reading)
        return middle + sum(w * t.linear.width_in for w, t in zip(widths, reading, strict=True))
    return middle + mode.stream * sum(_inputs(shape, [t.linear for t in reading]))


def _middle(target: Target) -> int:
    return target.rank if target.kept.middle is None else target.kept.middle


def _noise(mode: Mode) -> int:
    return mode.adapter if mode.device == "cpu" else MASK_BYTES


def unkept_noise(first: Sequence[Target], mode: Mode) -> int:
    """Bytes per token of noise that the first layer does not keep: what reads the embedding's norm has
    no gradient to hand on, unless the layer is computed again."""
    if not mode.dropout or mode.full or mode.checkpointing:
        return 0
    read = (t.linear for t in first if _place(t.linear.name) == "attention")
    return _noise(mode) * sum(m.width_in for m in read if not _is_output(m.name))


def _inputs(shape: Shape, linears: Sequence[Linear]) -> list[int]:
    """Widths of the different tensors that these layers read and that nothing else keeps."""
    names = {m.name: m for m in linears}
    first = [n for n in names if _place(n) == "attention" and not _is_output(n)]
    gates = [n for n in names if _place(n) != "attention" and not is_down(shape, names[n])]
    downs = [n for n in names if _place(n) != "attention" and is_down(shape, names[n])]
    kept = [shape.hidden] * bool(first) + [shape.hidden] * bool(gates)
    if shape.fused_qkv and shape.rotary and any(_is_output(n) for n in names):
        kept.append(shape.query)  # the output's heads lie apart there, so that it is copied
    if downs and shape.activation != "relu":
        kept.append(shape.feed_forward * shape.experts_active)
    return kept


def _place(name: str) -> str:
    return "attention" if "att" in name else "feed_forward"


def _is_output(name: str) -> bool:
    return name.rpartition(".")[2] in READS_ATTENTION


def is_down(shape: Shape, linear: Linear) -> bool:
    """Whether it is the feed-forward part's last matrix."""
    return linear.width_in == shape.feed_forward != shape.hidden


def _casts(targets: Sequence[Target], mode: Mode) -> int:
    """Autocast keeps a copy of each trained matrix in the stream's width during the entire step."""
    if not mode.autocast or mode.adapter == mode.stream or mode.fused:
        return 0
    if mode.full:
        return sum(mode.stream * t.linear.weights for t in targets)
    return sum(mode.stream * _factors(t) for t in targets)


def _factors(target: Target) -> int:
    """Numbers of A and B."""
    own, m = target.kept.factors, target.linear
    return target.rank * (m.width_in + m.width_out) if own is None else own


def _outputs(targets: Sequence[Target], mode: Mode) -> int:
    """Other tensors that the method keeps for each token."""
    return sum(mode.stream * t.kept.outputs + mode.adapter * t.kept.wide for t in targets)


def _matrices(targets: Sequence[Target], mode: Mode) -> int:
    """Matrices that the method computes and stores, independent of the number of tokens."""
    casts = mode.autocast and mode.adapter != mode.stream
    return sum(mode.inner * (t.kept.matrices + casts * t.kept.casts) for t in targets)


def moment_bytes(targets: Sequence[Target], mode: Mode) -> int:
    """The largest temporary memory of one of these layers."""
    casts = mode.adapter != mode.stream
    each = (
        mode.adapter * (t.kept.moment + casts * t.kept.moment_casts) + mode.inner * t.kept.brief
        for t in targets
    )
    return max(each, default=0)


def moment_gradients(targets: Sequence[Target], mode: Mode) -> int:
    """Bytes per token that the gradient of one of these layers needs above a LoRA's."""
    casts = mode.adapter != mode.stream
    each = (t.kept.gradients + casts * t.kept.gradient_casts for t in targets)
    return mode.adapter * max(each, default=0)


def _dropouts(shape: Shape, mode: Mode) -> int:
    """A noise per dropped number: on a CPU in the stream's width, on a GPU one byte."""
    noise = mode.stream if mode.device == "cpu" else MASK_BYTES
    return noise * 2 * shape.hidden if shape.dropout.get("residual") else 0
