"""Which rows make up which batch, and how they are padded.

Why not a sampler: resume is exact only when the order is a pure function of (seed, epoch, index), and
an iterator that can start anywhere needs no skipping. Batches draw no random numbers. Labels are
masked by position, never by token id: the pad token may be a real token elsewhere.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset

from studio.training.masks import IGNORED

Batch = dict[str, torch.Tensor]


class RowOrder:
    """The endless sequence of row numbers that training sees, epoch after epoch."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self._epochs: dict[int, list[int]] = {}

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(index, self.rows)
        if epoch not in self._epochs:
            self._epochs = {epoch: self._shuffled(epoch)}
        return self._epochs[epoch][place]

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(self.rows))
        random.Random(self.seed * 1000003 + epoch).shuffle(order)
        return order


class Batches:
    """The batches from row ``start`` of the sequence up to row ``stop``; reusable."""

    def __init__(
        self, rows: Dataset, order: RowOrder, start: int, stop: int, batch_size: int, pad_id: int
    ) -> None:
        self.rows = rows
        self.order = order
        self.start, self.stop = start, stop
        self.batch_size = batch_size
        self.pad_id = pad_id
        self.dataset = range(start, stop)  # what the Trainer counts as examples

    def __len__(self) -> int:
        return math.ceil((self.stop - self.start) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(self.start, self.stop, self.batch_size):
            last = min(first + self.batch_size, self.stop)
            yield pad_rows(self.rows, [self.order[i] for i in range(first, last)], self.pad_id)


def pad_rows(rows: Dataset, numbers: list[int], pad_id: int) -> Batch:
    """A batch padded on the right to its longest row.

    ``input_ids``, ``attention_mask``, ``labels`` and ``shift_labels`` are (batch, seq);
    ``shift_labels[b, t]`` is the token that position t predicts, or -100.
    """
    picked = rows[numbers]
    ids, labels = picked["input_ids"], picked["labels"]
    width = max(len(row) for row in ids)
    shape = (len(ids), width)
    batch = {
        "input_ids": torch.full(shape, pad_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, IGNORED),
        "shift_labels": torch.full(shape, IGNORED),
    }
    for place, (row, wanted) in enumerate(zip(ids, labels, strict=True)):
        length = len(row)
        batch["input_ids"][place, :length] = torch.tensor(row)
        batch["attention_mask"][place, :length] = 1
        batch["labels"][place, :length] = torch.tensor(wanted)
        batch["shift_labels"][place, : length - 1] = batch["labels"][place, 1:length]
    return batch


def tokens_in(batch: dict[str, Any]) -> int:
    """Real tokens of a batch, without padding."""
    return int(batch["attention_mask"].sum())
