"""Memory of a training step by part, and its peak.

The peak is the largest of three moments, each the sum of the tensors alive at that time:

1. the loss has been computed and its gradient begins: everything that the layers keep, and logits, then
   the gradient of a trained head, then what the last layer's gradient needs;
2. the gradient reaches the first layers: all gradients, one layer's activations;
3. the optimizer steps: all gradients and the states, no activations.

With gradient checkpointing the layers keep their inputs only, and one layer is recomputed during
its backward pass. Quantized matrices are dequantized one at a time. It adds no safety margin: the
comparison with the free memory does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.estimate.activations import (
    Mode,
    fuses_mlp,
    is_down,
    layer_bytes,
    moment_bytes,
    moment_gradients,
    unkept_noise,
)
from studio.estimate.optimizers import states as states_of
from studio.estimate.trainable import Counted, Target
from studio.model.shapes import Shape

SCALES = {True: 1 / 64 + 4 / (64 * 256), False: 4 / 64}
"""Bytes of scales per 4-bit number: a byte for 64 numbers and a float32 for 256 of those with double
quantization, else a float32 for 64 numbers (Dettmers et al., 2023, arXiv:2305.14314)."""
CHUNK = 1 << 24
"""Logits that a frozen head makes at once (``studio.training.loop.chunked_head``)."""
LOGIT_BYTES = {"chunks": 12, "rows": 12, "full": 12, "plain": 14}
"""Per logit at the peak of the loss: log-probabilities, their gradient and the logits' gradient, each
in float32; a model's own loss also keeps its logits in 16 bits."""
FRAGMENTATION = 1.6
"""What glibc loses beside adapters, as a share of the outputs of all of them: a fitted factor
(docs/estimate.md). Tensors are aligned to 64 bytes, and glibc places such a block only in a gap
that is larger by more than that, so that the gap of a freed tensor may be too small for another of
its size. An adapter's output, its scaled copy and the sum come and go between tensors that stay."""
FUSED_FRAGMENTATION = 0.6
"""The same where MLPs are fused: fewer tensors come and go. Measured: -0.15 to 0.54 in five trainings."""
NORM_GRADIENT = 20
"""Bytes per number of the last norm's input while its gradient is taken in float32: five copies."""


@dataclass(frozen=True)
class Parts:
    """Bytes by part. ``activations`` is what layers keep, ``logits`` the loss above that,
    ``workspace`` what one layer's gradient needs for a moment, ``allocator`` what the system's
    allocator loses to fragmentation. They are not all in memory at the same time; ``peak`` is the
    maximum."""

    weights: int = 0
    quantization: int = 0
    adapter: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    workspace: int = 0
    framework: int = 0
    peak: int = 0
    allocator: int = 0


@dataclass(frozen=True)
class Batch:
    """The longest micro-batch: ``rows`` of ``length`` tokens, padding included, of which
    ``labels`` are learned. ``accumulated``: gradients of earlier micro-batches lie in memory."""

    rows: int
    length: int
    labels: int
    accumulated: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch."""
        return self.rows * self.length


def memory(
    shape: Shape,
    counted: Counted,
    mode: Mode,
    batch: Batch,
    optimizer: str = "adamw",
    framework: int = 0,
    fragments: bool = False,
) -> Parts | None:
    """The memory of one step; ``None`` where trained parameters or optimizer are not known. A
    trained token costs its model a changed copy of the embedding, kept where the head shares it,
    and a gradient of the embedding's size. ``fragments``: freed blocks are not reused completely
    (``Machine.fragments``)."""
    trained = counted.trainable
    state = None if trained is None else states_of(optimizer, mode.device, trained, counted.small)
    if trained is None or state is None:
        return None
    weights, constants = _weights(shape, mode)
    if counted.tokens and mode.stored:  # embedding and head are converted
        weights += (mode.weights - mode.stored) * (shape.embedding + shape.head)
    width = mode.weights if mode.full else mode.adapter
    adapter = 0 if mode.full else mode.adapter * (counted.adapter or 0) + _own(counted, mode)
    gradients = width * trained
    states = int(state * (width / 4 if mode.full else 1))
    used = _activations(shape, counted, mode, batch)
    kept, workspace, logits = used.kept, used.workspace, used.logits
    head = width * counted.head
    lost = _lost(shape, counted, mode, batch, kept) if fragments else 0
    standing = weights + constants + adapter + states
    first = kept + max(logits, head, head - _head_copy(shape, mode) + workspace)
    first += gradients if batch.accumulated else 0
    last = gradients - _own_gradients(shape, mode) + used.layer + workspace
    step = gradients + width * _step_numbers(shape, counted, mode, optimizer)
    rows = mode.weights * shape.embedding if counted.tokens else 0
    first += rows * shape.tied
    last += rows * (1 + shape.tied)
    peak = framework + standing + max(first, last, step) + lost
    return Parts(
        weights,
        constants,
        adapter,
        gradients,
        states,
        kept,
        logits,
        workspace,
        framework,
        peak,
        lost,
    )


def _own(counted: Counted, mode: Mode) -> int:
    """Copies of fully trained layers, and frozen tensors of the method; biases belong to the
    model."""
    kept = [t.kept for t in counted.targets]
    shared = sum(max((k.shared[n] for k in kept), default=0) for n in (0, 1))
    return mode.adapter * (counted.copies + sum(k.frozen for k in kept) + shared)


def _weights(shape: Shape, mode: Mode) -> tuple[int, int]:
    """Bytes of the weights, and of the constants that quantization adds."""
    if mode.quantization == "none" or mode.full:
        return (mode.stored or mode.weights) * shape.parameters, 0
    packed = [m for m in shape.linears if m.experts == 1]
    numbers = sum(m.weights for m in packed)
    rest = mode.weights * (shape.parameters - numbers)
    if mode.quantization == "int8":
        return rest + numbers, 4 * sum(m.width_out for m in packed)
    return rest + numbers // 2, int(numbers * SCALES[mode.double_quant])


@dataclass(frozen=True)
class Used:
    """Bytes kept until the gradient, of one layer's workspace, of the loss above what is kept, and
    those kept by the layer that keeps most (0 where it is computed again)."""

    kept: int
    workspace: int
    logits: int
    layer: int = 0


def _activations(shape: Shape, counted: Counted, mode: Mode, batch: Batch) -> Used:
    """What a micro-batch needs. The first norm keeps nothing without checkpointing: its input has no
    gradient. The last norm's input is gone when checkpointed layers are computed again, and a layer
    norm shares its input with the checkpoint."""
    tokens, w = batch.tokens, mode.weights
    layers = _by_layer(shape, counted.targets, mode)
    each = [layer_bytes(shape, found, mode, tokens, batch.length) for found in layers]
    each[: counted.first_layer] = [0] * min(len(each), counted.first_layer)
    deepest = max(each, default=0)
    norm = tokens * (NORM_GRADIENT if shape.norm == "rms" else 4 * w) * shape.hidden
    last = layers[-1] if layers else []
    gradient = tokens * (_layer_gradient(shape, last, mode) + moment_gradients(last, mode))
    if mode.full:  # the gradient of one matrix, before the layer's activations are gone
        gradient += mode.weights * _largest_linear(shape)
    widened = bool(mode.stored) or mode.quantization != "none"
    dequantized = _largest_linear(shape) * w if widened else 0
    final = tokens * shape.hidden * (4 if shape.norm == "rms" else w)
    logits = _logits(shape, mode, batch)
    moment = max((moment_bytes(found, mode) for found in layers), default=0)
    if mode.checkpointing:
        shared = final + (tokens * shape.hidden * w if shape.norm == "layer" else 0)
        kept = shape.layers * tokens * w * shape.hidden + final
        return Used(kept, deepest + max(gradient, moment) + dequantized - shared, logits)
    kept = sum(each) + (0 if mode.full else final - _first_norm(shape, mode, tokens))
    kept += _head_copy(shape, mode) - tokens * unkept_noise(layers[0] if layers else [], mode)
    return Used(kept, max(norm, gradient + dequantized, moment), logits, deepest)


def _head_copy(shape: Shape, mode: Mode) -> int:
    """The head's copy in 16 bits, which autocast keeps from the logits to their gradient."""
    return mode.stream * shape.vocabulary * shape.hidden if mode.full and mode.autocast else 0


def _own_gradients(shape: Shape, mode: Mode) -> int:
    """Gradients of one layer, which are not there while its activations are; an adapter's are small."""
    return mode.weights * shape.linear_weights // max(1, shape.layers) if mode.full else 0


def _lost(shape: Shape, counted: Counted, mode: Mode, batch: Batch, kept: int) -> int:
    """Bytes lost to fragmentation at the peak. In full fine-tuning, gradients are allocated while
    activations are freed and do not reuse their blocks; the gradient of the head comes before any
    is freed."""
    if mode.full:
        gradients = mode.weights * ((counted.trainable or 0) - counted.head)
        return min(gradients, kept - _head_copy(shape, mode))
    fused = fuses_mlp(counted.targets, mode)
    return round(
        (FUSED_FRAGMENTATION if fused else FRAGMENTATION)
        * batch.tokens
        * sum(mode.inner * t.linear.width_out for t in counted.targets)
    )


def _logits(shape: Shape, mode: Mode, batch: Batch) -> int:
    rows = batch.tokens if mode.head in ("full", "plain") else batch.labels
    numbers = shape.vocabulary * rows
    numbers = min(numbers, CHUNK) if mode.head == "chunks" else numbers
    found = LOGIT_BYTES[mode.head] * numbers
    if mode.stored:  # the head's wide copy is there beside the logits, or beside their gradient
        wide = mode.weights * shape.vocabulary * shape.hidden
        found = max(found, wide + mode.weights * numbers)
    return found


def _first_norm(shape: Shape, mode: Mode, tokens: int) -> int:
    return tokens * shape.hidden * (4 if shape.norm == "rms" else mode.weights)


def _by_layer(shape: Shape, targets: Sequence[Target], mode: Mode) -> list[list[Target]]:
    """The adapted layers by decoder layer, in order; all linear layers in full fine-tuning."""
    count = len(shape.linears) // max(1, shape.layers)
    places = {m.name: n // max(1, count) for n, m in enumerate(shape.linears)}
    found: list[list[Target]] = [[] for _ in range(shape.layers)]
    used = [Target(m, 0) for m in shape.linears] if mode.full else targets
    for target in used:
        found[min(places[target.linear.name], shape.layers - 1)].append(target)
    return found


def _layer_gradient(shape: Shape, targets: Sequence[Target], mode: Mode) -> int:
    """Bytes per token that one layer's gradient needs above what the layer keeps.

    The moment is the feed-forward part: the gradients of gate and up beside that of their product.
    Where the last matrix has an adapter, its input's copy is given back before; with copies the
    gradient of that input passes through float32."""
    w, inner, hidden = mode.stream, shape.feed_forward * shape.experts_active, shape.hidden
    down = any(is_down(shape, t.linear) for t in targets)
    if mode.full:
        return w * inner
    if fuses_mlp(targets, mode):  # activation, product and the product's gradient
        return 3 * w * inner + 2 * w * hidden
    if not down:
        return 2 * w * inner + 2 * w * hidden
    if mode.dropout:
        return _dropped_gradient(shape, mode)
    if not shape.gated and (mode.copies is None or mode.autocast):
        return _plain_gradient(shape, mode)
    if mode.copies is None:
        return w * inner + 2 * w * hidden
    return (3 * w if mode.autocast else 2 * w) * inner + 4 * w * hidden


def _plain_gradient(shape: Shape, mode: Mode) -> int:
    """The same without a gate. The gradients by way of the adapter and of the frozen matrix, and their
    sum, lie side by side; ReLU keeps the matrix's input, which else is given back before."""
    w, relu = mode.weights, shape.activation == "relu"
    if mode.copies is None:
        return (3 if relu else 2) * w * shape.feed_forward
    return (2 if relu else 3) * w * shape.feed_forward + 4 * w * shape.hidden


def _dropped_gradient(shape: Shape, mode: Mode) -> int:
    """The same with dropout before the adapter. The moment is when the last matrix's input is dropped:
    the input (which ReLU keeps anyway), its float32 copy and, where autocast takes yet another, what
    is left of that. Without copies, noise and input are given back before the gradients are added."""
    w, inner = mode.weights, shape.feed_forward * shape.experts_active
    if mode.copies is None:
        return w * inner + 2 * w * shape.hidden
    read = 0 if shape.activation == "relu" else w
    return (read + mode.adapter * (2 if mode.autocast else 1)) * inner + (
        4 * w * shape.hidden if mode.checkpointing else 0
    )


def _largest_linear(shape: Shape) -> int:
    return max((m.width_in * m.width_out for m in shape.linears), default=0)


def _step_numbers(shape: Shape, counted: Counted, mode: Mode, optimizer: str) -> int:
    """Numbers that the optimizer's step needs for a moment, as far as they matter. AdamW takes one tensor
    after the other: its root and that by the correction, beside the last tensor's. On a GPU it takes
    all at once: a root for each."""
    if not mode.full:
        return 0
    if mode.device == "cuda" and optimizer == "adamw":
        return counted.trainable or 0
    matrix = _largest_linear(shape)
    return max(2 * counted.head + (0 if shape.tied else matrix), 3 * matrix)
