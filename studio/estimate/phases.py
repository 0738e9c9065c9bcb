"""Memory of the phases around a training: loading the model, checking the saved weights, merging.

Each holds one model, and the previous one has been freed. The training usually needs the most; a merge may need more,
because the merged model is compared with the adapter without quantization, in float32 where that fits; large models
are compared layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from studio.estimate.activations import Mode
from studio.estimate.memory import Parts
from studio.model.shapes import Shape
from studio.system.memory import BY_LAYERS, HEADROOM

Phase = Literal["loading", "training", "checking", "merging"]
CHECKED_TOKENS = 48
"""Longest row of the check of the saved weights."""
COMPARED_TOKENS = 80
"""About the tokens of all texts of the comparison after a merge."""
_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


def phases_of(
    shape: Shape, mode: Mode, step: Parts, available: int, merge: Any | None = None
) -> Mapping[Phase, Parts]:
    """The memory of each phase by part. ``step`` is that of a training step, ``available`` the free
    memory, ``merge`` the settings of the Merge node that follows."""
    found: dict[Phase, Parts] = {
        "loading": _loading(shape, mode, step),
        "training": step,
        "checking": _checking(shape, mode, step),
    }
    if merge is not None and not mode.full:
        found["merging"] = _merging(shape, mode, step, available, merge.dtype)
    return found


def _sum(step: Parts, **sizes: int) -> Parts:
    """Parts of a phase in which all of them are in memory at the same time."""
    found = Parts(framework=step.framework, **sizes)
    return replace(found, peak=sum(vars(found).values()))


def _loading(shape: Shape, mode: Mode, step: Parts) -> Parts:
    """A tensor is read before it is quantized or converted to float32; otherwise it is used as it is."""
    largest = max((m.width_in * m.width_out for m in shape.linears), default=0)
    if mode.quantization == "none":
        converted = mode.weights == 4 and not mode.stored
        largest = max(largest, shape.vocabulary * shape.hidden) if converted else 0
    return _sum(step, weights=step.weights, quantization=step.quantization, workspace=2 * largest)


def _checking(shape: Shape, mode: Mode, step: Parts) -> Parts:
    """The base in the precision of the training, and the adapter beside its file; in full fine-tuning
    the saved model."""
    weights = mode.stream * shape.parameters if mode.full else step.weights
    return _sum(
        step,
        weights=weights,
        quantization=step.quantization,
        adapter=2 * step.adapter,
        logits=mode.stream
        * shape.vocabulary
        * (CHECKED_TOKENS + (shape.hidden if mode.stored else 0)),
    )


def _merging(shape: Shape, mode: Mode, step: Parts, available: int, dtype: str) -> Parts:
    """The comparison: in float32 if that fits, else in the precision of the merged model. What does not
    fit on a GPU is compared on the CPU, where large models are read layer by layer."""
    mixture = any(linear.experts > 1 for linear in shape.linears)
    if mode.device == "cpu" and 4 * shape.parameters > BY_LAYERS and not mixture:
        return _by_layers(shape, mode, step)
    half = mode.autocast or mode.stored == 2 or mode.weights == 2
    widths = (4, _WIDTHS.get(dtype, 2 if half else 4))
    free = available - step.framework
    fitting = [w for w in widths if HEADROOM * w * shape.parameters < free]
    if not fitting and mode.device == "cuda":
        return _sum(step)
    width = fitting[0] if fitting else widths[-1]
    return _sum(
        step,
        weights=width * shape.parameters,
        adapter=2 * step.adapter,
        logits=2 * 4 * COMPARED_TOKENS * shape.vocabulary,
    )


def _by_layers(shape: Shape, mode: Mode, step: Parts) -> Parts:
    """The largest part of the model in float32, and the tensor that it is read from. After a training on a quantized
    base, that base is loaded too."""
    layer = sum(linear.parameters for linear in shape.linears) // shape.layers + shape.vectors
    part = 6 * max(layer, shape.vocabulary * shape.hidden)
    quantized = mode.quantization != "none"
    return _sum(
        step,
        weights=max(part, step.weights) if quantized else part,
        quantization=step.quantization if quantized else 0,
        adapter=2 * step.adapter,
        logits=2 * 4 * COMPARED_TOKENS * shape.vocabulary,
    )
