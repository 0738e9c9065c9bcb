"""The batches of a training, and their collation: padded, or concatenated without padding.

There is no sampler: resuming is exact only when the order is a pure function of (seed, epoch, index),
and an iterator that can start anywhere skips nothing. Batches draw no random numbers. Labels are masked
by position and not by token id, because the pad token may also occur as a real token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.compute
import torch
from datasets import Dataset

from studio.training.batch.row_order import RowOrder
from studio.training.tokens.masks import IGNORED

__all__ = ["Batch", "Batches", "RowOrder", "concatenate_rows", "pad_rows", "tokens_in"]

Batch = dict[str, Any]
"""Tensors by name; ``lengths`` of a batch without padding is a tuple of ints."""


class Batches:
    """The batches from unit ``start`` of the order up to unit ``stop``; can be iterated repeatedly.

    A unit is a row, or a bin when rows are packed. ``batch_size`` counts units and does not change the
    order of the rows. ``padding_free`` batches are made by ``concatenate_rows``.
    """

    def __init__(
        self,
        rows: Dataset,
        order: RowOrder,
        start: int,
        stop: int,
        batch_size: int,
        pad_id: int,
        padding_free: bool = False,
    ) -> None:
        self.rows = rows
        self.order = order
        self.start, self.stop = start, stop
        self.batch_size = batch_size
        self.pad_id = pad_id
        self.padding_free = padding_free

    def __len__(self) -> int:
        return math.ceil((self.stop - self.start) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(self.start, self.stop, self.batch_size):
            numbers = self.order.numbers(first, min(first + self.batch_size, self.stop))
            yield (
                concatenate_rows(self.rows, numbers)
                if self.padding_free
                else pad_rows(self.rows, numbers, self.pad_id)
            )


def pad_rows(rows: Dataset, numbers: Sequence[int], pad_id: int) -> Batch:
    """A batch padded on the right to its longest row.

    ``input_ids``, ``attention_mask``, ``labels`` and ``shift_labels`` are (batch, seq);
    ``shift_labels[b, t]`` is the token that position t predicts, or -100. ``weights``, of the same
    shape and shifted in the same way, is present when a token of the batch has a weight other than 1.
    """
    ids, labels, weights = _columns(rows, numbers)
    shape = (len(ids), max(len(row) for row in ids))
    batch = {
        "input_ids": torch.full(shape, pad_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
        "shift_labels": torch.full(shape, IGNORED),
    }
    if weights is not None:
        batch["weights"] = torch.ones(shape)
    for place, (row, wanted) in enumerate(zip(ids, labels, strict=True)):
        length = len(row)
        batch["input_ids"][place, :length] = torch.tensor(row)
        batch["attention_mask"][place, :length] = 1
        batch["labels"][place, :length] = torch.tensor(wanted)
        batch["shift_labels"][place, : length - 1] = batch["labels"][place, 1:length]
        if weights is not None and (own := weights[place]) is not None:
            batch["weights"][place, : length - 1] = torch.tensor(own[1:])
    return batch


def concatenate_rows(rows: Dataset, numbers: Sequence[int]) -> Batch:
    """A padding-free batch: the rows concatenated into one sequence.

    ``input_ids``, ``position_ids`` (from 0 in each row), ``labels`` and ``shift_labels`` are
    (1, tokens); the label after the last token of a row is -100. ``lengths`` holds the length of each
    row. There is no attention mask: the position ids mark where each row begins.
    """
    ids, labels, weights = _columns(rows, numbers)
    lengths = tuple(len(row) for row in ids)
    batch: Batch = {
        "input_ids": _joined(ids),
        "position_ids": _joined([range(n) for n in lengths]),
        "labels": _joined(labels),
        "shift_labels": _joined([[*row[1:], IGNORED] for row in labels]),
        "lengths": lengths,
    }
    if weights is not None:
        filled = [w or [1.0] * n for w, n in zip(weights, lengths, strict=True)]
        batch["weights"] = torch.cat([torch.tensor([*w[1:], 1.0]) for w in filled])[None]
    return batch


def tokens_in(batch: Batch) -> int:
    """The number of tokens of a batch, without padding."""
    if "lengths" in batch:
        return sum(batch["lengths"])
    return int(batch["attention_mask"].sum())


def row_lengths(rows: Dataset) -> list[int]:
    """The number of tokens of each row, from the offsets of the Arrow table."""
    column = rows.data.column("input_ids")
    return [int(n) for n in pyarrow.compute.list_value_length(column).to_pylist()]


def _columns(
    rows: Dataset, numbers: Sequence[int]
) -> tuple[list[list[int]], list[list[int]], list[list[float] | None] | None]:
    """Ids, labels and weights of the rows; weights are ``None`` when all tokens have weight 1."""
    picked = rows[list(numbers)]
    weights = picked.get("weights")
    if weights is not None and all(w is None for w in weights):
        weights = None
    return picked["input_ids"], picked["labels"], weights


def _joined(parts: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.cat([torch.tensor(part) for part in parts])[None]
