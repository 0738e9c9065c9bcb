"""How rows are combined into batches: padded, padding-free, or packed into bins.

Rows that share a sequence must not attend to each other. Whether the model keeps them apart is tested
once, on real rows, before the training. If it does not, rows are padded and a notice says so. So they are
where padding-free batches would need a mask over the whole sequence, whose memory grows with the square of
the batch size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from studio.graph.context import StepContext
from studio.node_settings.train import TrainSettings
from studio.training.adapter.verify import tolerance
from studio.training.batch.attention import (
    needs_mask,
    row_boundaries,
    use_masked_attention,
    use_row_attention,
)
from studio.training.batch.batches import Batch, Batches, concatenate_rows, pad_rows, row_lengths
from studio.training.batch.row_order import GroupedOrder, PackedOrder, RowOrder, padding_share
from studio.training.model.out_of_memory import is_out_of_memory

logger = logging.getLogger(__name__)

_TRIED_TOKENS = 64
_EXPERTS_ROUNDING = 1e-6  # experts take their tokens in groups, whose size changes the last bits
_MUCH_PADDING = 10  # percent
_ONE_SEQUENCE_PER_ROW = {"alora"}  # methods that look for a place in each sequence


@dataclass(frozen=True)
class BatchPlan:
    """The order of the rows and how they are collated; an epoch has ``units`` units of the order."""

    rows: Dataset
    order: RowOrder
    pad_id: int
    padding_free: bool = False

    @property
    def units(self) -> int:
        """Rows per epoch, or bins per epoch when rows are packed."""
        return self.order.units

    @property
    def rows_per_unit(self) -> float:
        """The mean number of rows in a unit."""
        return len(self.rows) / self.units

    def batches(self, start: int, stop: int, batch_size: int) -> Batches:
        """The batches of the units from ``start`` to ``stop``; the order does not depend on the batch size."""
        return Batches(
            self.rows, self.order, start, stop, batch_size, self.pad_id, self.padding_free
        )


def plan_batches(
    context: StepContext,
    model: Any,
    rows: Dataset,
    settings: TrainSettings,
    pad_id: int,
    method: str = "lora",
    precision: str = "",
) -> BatchPlan:
    """The plan for the batching mode in ``settings``, or for padding where ``model`` needs it.
    ``precision`` is that of the training, where it differs from that of the weights."""
    mode, why = settings.batching, ""
    precision = precision or str(model.dtype).removeprefix("torch.")
    rows = rows.select_columns([n for n in _COLUMNS if n in rows.column_names])
    if mode != "padded":
        why = _why_padded(model, rows, pad_id, method, precision, mode)
    if mode == "packed" and not why:
        return _packed(context, rows, settings, pad_id)
    if mode == "padding_free" and not why:
        return BatchPlan(rows, RowOrder(len(rows), settings.seed), pad_id, padding_free=True)
    lengths = row_lengths(rows)
    order = RowOrder(len(rows), settings.seed)
    if mode == "padded" and settings.group_by_length and len(rows) > 1:
        order = GroupedOrder(lengths, settings.seed, settings.batch_size)
    _tell_padding(context, settings, why, padding_share(order, lengths, settings.batch_size))
    return BatchPlan(rows, order, pad_id)


def _tell_padding(context: StepContext, settings: TrainSettings, why: str, share: float) -> None:
    """Report why rows are padded, if that was not chosen, and the share of padding. Only packed batches are
    chosen by intent, because a step then holds other rows."""
    percent = round(100 * share)
    sentences = [f"Rows are padded: {why}."] if why else []
    if settings.batch_size > 1:
        sentences.append(
            f"Padding is {percent} % of the tokens that are computed in the first epoch."
        )
    hint = ""
    if settings.batching == "packed":
        hint = "Set Batching to Padded to train the same way without this notice."
    elif percent >= _MUCH_PADDING and not settings.group_by_length:
        grouped = "“Group by length” puts rows of similar length into one batch"
        hint = (
            f"{grouped}." if settings.batching == "padded" else f"With Batching: Padded, {grouped}."
        )
    if percent >= _MUCH_PADDING and settings.batching == "padded":
        hint = f"Padding-free batches need none. {hint}".strip()
    if sentences:
        level = "warning" if settings.batching == "packed" else "info"
        context.notice(" ".join(sentences), hint, level=level)


_COLUMNS = ("input_ids", "labels", "weights")


def _packed(context: StepContext, rows: Dataset, settings: TrainSettings, pad_id: int) -> BatchPlan:
    lengths = row_lengths(rows)
    capacity = max(settings.pack_length or settings.max_length, max(lengths))
    order = PackedOrder(lengths, settings.seed, capacity)
    filled = 100 * sum(lengths) / (capacity * order.units)
    context.notice(
        f"{len(rows)} rows are packed into {order.units} sequences of at most {capacity} tokens, "
        f"{filled:.0f} % full; the batch size counts these sequences.",
        level="info",
    )
    return BatchPlan(rows, order, pad_id, padding_free=True)


# ------------------------------------------------------------------ do rows stay apart?


def _why_padded(
    model: Any, rows: Dataset, pad_id: int, method: str, precision: str, mode: str
) -> str:
    """Select an attention that keeps rows in one sequence apart; the reason why rows are padded if there is none."""
    if method in _ONE_SEQUENCE_PER_ROW:
        return "the LoRA method looks for a place in each row, so that each needs a sequence of its own"
    if use_row_attention(model):
        if rows_stay_apart(model, rows, pad_id, precision):
            return ""
        use_masked_attention(model)
    if not rows_stay_apart(model, rows, pad_id, precision):
        return "with this model, rows in the same sequence would attend to each other"
    if mode == "padding_free" and needs_mask(model):
        return (
            "with this model, only a mask over the whole sequence keeps rows apart, which needs more memory than "
            "padding"
        )
    return ""


def rows_stay_apart(model: Any, rows: Dataset, pad_id: int, precision: str = "") -> bool:
    """Whether two rows in one sequence give the same logits as each row alone, in the ``precision`` of the
    training, which selects the kernel.

    Compares the mean difference, because in half precision single logits of two ways of computing differ
    by more than any useful bound. The logits of the second row must also stay the same when the first row
    is reversed, which detects a leak far below rounding. Runs in evaluation mode and draws no random numbers.
    """
    first, second = (_head_of(rows, i % len(rows)) for i in range(2))
    turned = {**first, "input_ids": first["input_ids"][::-1]}
    dtype = getattr(torch, precision or str(model.dtype).removeprefix("torch."))
    training = model.training
    model.eval()
    try:
        with torch.autocast(model.device.type, dtype, enabled=dtype != model.dtype):
            together, other = (_concatenated_logits(model, [a, second]) for a in (first, turned))
            alone = torch.cat([_padded_logits(model, row, pad_id) for row in (first, second)])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        logger.info("Rows in one sequence: %s: %s", type(error).__name__, error)
        return False
    finally:
        model.train(training)
    if together.shape != alone.shape or not bool(together.isfinite().all()):
        return False
    cut, largest = len(first["input_ids"]), float(alone.abs().max())
    name = str(dtype).removeprefix("torch.")
    near = float((together - alone).abs().mean()) <= tolerance(name, largest) / 4
    leak = float((together[cut:] - other[cut:]).abs().max())
    rounding = max(torch.finfo(dtype).eps, _EXPERTS_ROUNDING)
    return near and leak <= rounding * largest


def _head_of(rows: Dataset, number: int) -> dict[str, list[int]]:
    ids = rows[number]["input_ids"][:_TRIED_TOKENS]
    return {"input_ids": ids, "labels": ids}


def _concatenated_logits(model: Any, rows: list[dict[str, list[int]]]) -> torch.Tensor:
    batch = concatenate_rows(Dataset.from_list(rows), range(len(rows)))
    return _logits(model, batch, "position_ids")


def _padded_logits(model: Any, row: dict[str, list[int]], pad_id: int) -> torch.Tensor:
    return _logits(model, pad_rows(Dataset.from_list([row]), [0], pad_id), "attention_mask")


@torch.no_grad()
def _logits(model: Any, batch: Batch, more: str) -> torch.Tensor:
    """(tokens, vocabulary), on the CPU in float32."""
    inputs = {name: batch[name].to(model.device) for name in ("input_ids", more)}
    with row_boundaries(batch.get("lengths"), model.device):
        return model(**inputs, use_cache=False).logits[0].float().cpu()
