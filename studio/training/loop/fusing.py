"""Whether a training uses the fused functions: they are compared with the plain ones on its first rows.

The comparison takes two forward and backward passes of at most 128 tokens and draws no random number of the training.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from datasets import Dataset
from peft.tuners.tuners_utils import BaseTunerLayer

from studio.graph.context import StepContext
from studio.training.batch.batches import Batch, concatenate_rows, pad_rows
from studio.training.fused.check import compare
from studio.training.fused.swap import Fused, fuse
from studio.training.loop.sft import summed_loss, total_weight
from studio.training.loop.state import TrainingState
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.wide_products import multiplies_in_float32

logger = logging.getLogger(__name__)

_ROWS, _TOKENS = 2, 64
_TURN_OFF = "Turn off Fused functions in the Train node to train the same way without this notice."


def fuse_checked(
    context: StepContext,
    state: TrainingState,
    rows: Dataset,
    pad_id: int,
    padding_free: bool,
) -> Fused:
    """Fuse the model if both ways agree on the heads of two of ``rows``; otherwise it stays as it is, with a notice."""
    model = state.tuning.model
    device = state.accelerator.device
    batch = _heads(rows, pad_id, padding_free)
    batch = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}

    def loss() -> torch.Tensor:
        return summed_loss(model, batch, "full") / total_weight(batch).clamp(min=1)

    model.train()
    try:
        fused, difference = compare(model, fuse, loss, _products(state))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        logger.info("Fused functions: %s: %s", type(error).__name__, error)
        context.notice(
            "Fused functions are not used: this model does not support them.", _TURN_OFF, once=True
        )
        return Fused()
    if not difference.is_same:
        fused.undo()
        context.notice(
            "Fused functions are not used: with this model they change the loss by "
            f"{difference.loss:.1e} and a gradient by {difference.gradient:.1e} (of {difference.parameter}), "
            f"relative to its size; {difference.limit:.0e} would be rounding.",
            _TURN_OFF,
            once=True,
        )
        return fused
    _tell(context, model, fused)
    return fused


def _products(state: TrainingState) -> torch.dtype:
    """The precision of matrix products."""
    if multiplies_in_float32(state.tuning.model):
        return torch.float32
    found: torch.dtype = getattr(torch, state.tuning.adapted.model.dtype)
    return found


def _heads(rows: Dataset, pad_id: int, padding_free: bool) -> Batch:
    """The first tokens of two rows, all of them with labels."""
    taken = [rows[i % len(rows)]["input_ids"][:_TOKENS] for i in range(_ROWS)]
    taken[1] = taken[1][: max(2, len(taken[1]) // 2)]  # rows of different length
    heads = Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in taken])
    return (
        concatenate_rows(heads, range(_ROWS))
        if padding_free
        else pad_rows(heads, range(_ROWS), pad_id)
    )


def _tell(context: StepContext, model: Any, fused: Fused) -> None:
    """Say how many of the layers with an adapter are fused."""
    layers = sum(isinstance(m, BaseTunerLayer) for m in model.modules())
    logger.info(
        "Fused functions: %s of %s layers with an adapter, %s RMS norms",
        fused.adapted,
        layers,
        fused.counts["RMS norms"],
    )
    if fused.adapted < layers:
        which = f"{layers - fused.adapted} of {layers}" if fused.adapted else "The"
        context.notice(
            f"{which} layers with an adapter are computed without fused functions, which support LoRA without dropout "
            "and without quantization.",
            level="info",
            once=True,
        )
