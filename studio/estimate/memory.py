"""Memory of a training step by part, and its peak.

The peak is the largest of three moments, each summed from what is alive then:

1. the loss has been computed and its gradient begins: everything that the layers keep, and logits;
2. the gradient reaches the first layers: all gradients, one layer's activations;
3. the optimizer steps: all gradients and the states, no activations.

With gradient checkpointing the layers keep their inputs only, and one layer is computed again while
its gradient is taken. Quantized matrices are made whole one at a time. It must not add a safety
margin: whoever compares the peak with free memory does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.estimate.activations import Mode, is_down, layer_bytes
from studio.estimate.optimizers import state_bytes
from studio.estimate.shapes import Shape
from studio.estimate.trainable import Counted, Target

SCALES = {True: 1 / 64 + 4 / (64 * 256), False: 4 / 64}
"""Bytes of scales per 4-bit number: a byte for 64 numbers and a float32 for 256 of those with double
quantization, else a float32 for 64 numbers (Dettmers et al., 2023, arXiv:2305.14314)."""
LOGIT_BYTES = {"rows": 12, "full": 12, "plain": 14}
"""Per logit at the peak of the loss: log-probabilities, their gradient and the logits' gradient, each
in float32; a model's own loss also keeps its logits in 16 bits."""
NORM_GRADIENT = 20
"""Bytes per number of the last norm's input while its gradient is taken in float32: five copies."""


@dataclass(frozen=True)
class Parts:
    """Bytes by part. ``activations`` is what layers keep, ``logits`` the loss above that, ``workspace``
    what one layer's gradient needs for a moment. They do not all lie in memory at once: ``peak``
    says how much does."""

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
) -> Parts | None:
    """The memory of one step; ``None`` where trained parameters or optimizer are not known."""
    trained = shape.parameters if mode.full else counted.trainable
    state = state_bytes(optimizer, mode.device)
    if trained is None or state is None:
        return None
    weights, constants = _weights(shape, mode)
    width = mode.weights if mode.full else mode.adapter
    adapter = 0 if mode.full else mode.adapter * (counted.adapter or 0) + _own(counted, mode)
    gradients = width * trained
    states = int(state * trained * (width / 4 if mode.full else 1))
    kept, workspace, logits = _activations(shape, counted.targets, mode, batch)
    standing = weights + constants + adapter + states
    first = kept + max(logits, workspace) + (gradients if batch.accumulated else 0)
    last = gradients + (
        workspace if mode.checkpointing else kept // max(1, shape.layers) + workspace
    )
    step = gradients + _largest(shape, mode) * 2 * width
    peak = framework + standing + max(first, last, step)
    return Parts(
        weights, constants, adapter, gradients, states, kept, logits, workspace, framework, peak
    )  # fmt: skip


def _own(counted: Counted, mode: Mode) -> int:
    """Copies of whole layers; biases are the model's own."""
    return mode.adapter * counted.copies


def _weights(shape: Shape, mode: Mode) -> tuple[int, int]:
    """Bytes of the weights, and of the constants that quantization adds."""
    if mode.quantization == "none" or mode.full:
        return mode.weights * shape.parameters, 0
    packed = [m for m in shape.linears if m.experts == 1]
    numbers = sum(m.weights for m in packed)
    rest = mode.weights * (shape.parameters - numbers)
    if mode.quantization == "int8":
        return rest + numbers, 4 * sum(m.width_out for m in packed)
    return rest + numbers // 2, int(numbers * SCALES[mode.double_quant])


def _activations(
    shape: Shape, targets: Sequence[Target], mode: Mode, batch: Batch
) -> tuple[int, int, int]:
    """Kept until the gradient, workspace of one layer, and the loss above what is kept.

    The first norm keeps nothing without checkpointing: its input has no gradient."""
    tokens, w = batch.tokens, mode.weights
    layers = _by_layer(shape, targets, mode)
    each = [layer_bytes(shape, found, mode, tokens, batch.length) for found in layers]
    deepest = max(each, default=0)
    rows = batch.labels if mode.head == "rows" else tokens
    logits = LOGIT_BYTES[mode.head] * shape.vocabulary * rows
    norm = tokens * (NORM_GRADIENT if shape.norm == "rms" else 4 * w) * shape.hidden
    gradient = tokens * _layer_gradient(shape, layers[-1] if layers else [], mode)
    dequantized = _largest_linear(shape) * w if mode.quantization != "none" else 0
    final = tokens * shape.hidden * (4 if shape.norm == "rms" else w)
    if mode.checkpointing:
        kept = shape.layers * tokens * w * shape.hidden + final
        return kept, deepest + gradient + dequantized, logits
    kept = sum(each) + (0 if mode.full else final - _first_norm(shape, mode, tokens))
    return kept, max(norm, gradient + dequantized), logits


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
    w, inner, hidden = mode.weights, shape.feed_forward * shape.experts_active, shape.hidden
    down = any(is_down(shape, t.linear) for t in targets)
    if not down:
        return 2 * w * inner + 2 * w * hidden
    if mode.copies is None:
        return w * inner + 2 * w * hidden
    return (3 * w if mode.autocast else 2 * w) * inner + 4 * w * hidden


def _largest_linear(shape: Shape) -> int:
    return max((m.width_in * m.width_out for m in shape.linears), default=0)


def _largest(shape: Shape, mode: Mode) -> int:
    """Numbers of the largest trained tensor, as far as it matters."""
    return max(shape.embedding, _largest_linear(shape)) if mode.full else 0
