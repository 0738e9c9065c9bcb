"""The facts that a recipe uses, and how many rows fit in memory at once.

The estimate decides. For a model that it does not know there is a rough calculation. A run that still
runs out of memory continues with smaller batches. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from studio.values import FULL_FINE_TUNING

GB = 1e9
_ROOM = 0.8  # share of the memory; the rest is for libraries and other programs
_QUANTIZED_BYTES = 0.6  # NF4 with its constants
_STATE_BYTES = 16  # a float32 parameter, its gradient, and the two states of AdamW

_LARGEST_BATCH = 64

Fits = Callable[[int, bool, bool], bool]
"""Whether rows per batch, a 4-bit base and gradient checkpointing fit into the memory."""


@dataclass(frozen=True)
class RecipeFacts:
    """Facts about a training; ``None`` if unknown.

    ``rows`` are the training rows after long texts are split, ``source_rows`` those before.
    ``tokens`` is the mean length of a row, ``longest`` the length of the longest row, ``counted`` whether the
    tokenizer counted them or they are estimated from characters, ``cut`` the
    number of truncated rows, and ``cut_texts`` how many of those are plain text. ``memory_gb`` is
    the memory of the device, ``fits`` asks the estimate. ``quantizes`` is whether the method trains on a
    4-bit base.
    """

    train: str
    lora: str | None = None
    base: str | None = None
    dataset: str | None = None
    method: str = "lora"
    quantization: str = "none"
    parameters: int | None = None
    layers: int | None = None
    hidden: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    rows: int | None = None
    source_rows: int | None = None
    validation_rows: int | None = None
    tokens: float | None = None
    longest: int | None = None
    counted: bool = True
    cut: int = 0
    cut_texts: int = 0
    max_length: int = 512
    batching: str = "padding_free"
    gpu: bool = False
    memory_gb: float | None = None
    fits: Fits | None = field(default=None, compare=False, repr=False)
    quantizes: bool = True

    @property
    def full_fine_tuning(self) -> bool:
        """Whether the training is full fine-tuning."""
        return self.method == FULL_FINE_TUNING


def token_bytes(facts: RecipeFacts, checkpointing: bool) -> float:
    """Memory per token of a batch during training, by the formula of the estimate with the usual
    ratios of a transformer's sizes.
    """
    layers, hidden = facts.layers or 32, facts.hidden or 4096
    per_layer = 2 * hidden if checkpointing else 56 * hidden
    return float(layers * per_layer + 12 * (facts.vocabulary or 128_000))


def weight_bytes(facts: RecipeFacts, quantized: bool) -> float:
    """Memory of the model, including gradients and optimizer states for full fine-tuning."""
    parameters = facts.parameters or 0
    if facts.full_fine_tuning:
        return float(parameters * _STATE_BYTES)
    return float(parameters * (_QUANTIZED_BYTES if quantized else 2))


def fitting(facts: RecipeFacts, quantized: bool, checkpointing: bool) -> int:
    """The largest power of two of rows that fit at once; 0 if not even one fits."""
    if facts.fits is not None:
        rows = 1
        while rows <= _LARGEST_BATCH and facts.fits(rows, quantized, checkpointing):
            rows *= 2
        return rows // 2
    assert facts.memory_gb is not None
    room = _ROOM * facts.memory_gb * GB - weight_bytes(facts, quantized)
    row = token_bytes(facts, checkpointing) * min(
        facts.longest or facts.max_length, facts.max_length
    )
    if room < row:
        return 0
    return int(2 ** math.floor(math.log2(room / row)))


def best_fit(facts: RecipeFacts) -> tuple[int, bool, bool]:
    """Rows at once, quantized, checkpointing: the least harmful combination that fits."""
    already = facts.quantization != "none"
    ways = [(already, False), (already, True)]
    if not already and not facts.full_fine_tuning and facts.base and facts.quantizes:
        ways += [(True, False), (True, True)]
    for quantized, checkpointing in ways:
        rows = fitting(facts, quantized, checkpointing)
        if rows:
            return rows, quantized, checkpointing
    return 1, ways[-1][0], True
