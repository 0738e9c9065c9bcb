"""The order of rows in training: pure functions of (seed, epoch, index).

Resuming is exact, and a micro-batch can be halved during a run, only if index i of the sequence
always holds the same rows. An order counts units: a row, or a bin of packed rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from studio.training.batch.packing import pack

__all__ = ["GroupedOrder", "PackedOrder", "RowOrder", "padding_share"]

MEGA_BATCHES = 50
"""The number of batches whose rows are sorted by length together."""


class RowOrder:
    """The infinite sequence of row numbers of a training, epoch after epoch."""

    def __init__(self, rows: int, seed: int) -> None:
        self.units = rows
        self.seed = seed
        self._epochs: dict[int, list[int]] = {}

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(index, self.units)
        if epoch not in self._epochs:
            self._epochs = {epoch: self._shuffled(epoch)}
        return self._epochs[epoch][place]

    def numbers(self, first: int, last: int) -> list[int]:
        """The rows of the units from ``first`` up to ``last``."""
        return [self[i] for i in range(first, last)]

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(self.units))
        self._generator(epoch).shuffle(order)
        return order

    def _generator(self, epoch: int) -> random.Random:
        return random.Random(self.seed * 1000003 + epoch)


class GroupedOrder(RowOrder):
    """Groups rows of similar length to reduce padding; the batches are in random order.

    The shuffled rows are taken ``MEGA_BATCHES`` batches at a time, sorted by length and divided
    into batches, which are then shuffled. Batches begin at multiples of ``batch_size`` of the
    sequence over all epochs, as in the training.
    """

    def __init__(self, lengths: Sequence[int], seed: int, batch_size: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths = lengths
        self.batch_size = batch_size

    def _shuffled(self, epoch: int) -> list[int]:
        order = super()._shuffled(epoch)
        begun = min(-(epoch * self.units) % self.batch_size, len(order))  # by the previous epoch
        head, order = order[:begun], order[begun:]
        window = self.batch_size * MEGA_BATCHES
        batches: list[list[int]] = []
        for first in range(0, len(order), window):
            part = sorted(order[first : first + window], key=lambda i: self.lengths[i])
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        short = [b for b in batches if len(b) < self.batch_size]
        full = [b for b in batches if len(b) == self.batch_size]
        self._generator(epoch).shuffle(full)
        return [*head, *(row for batch in full + short for row in batch)]


class PackedOrder(RowOrder):
    """Bins of rows. The rows of a bin are drawn once from the seed, the order of the bins for every epoch."""

    def __init__(self, lengths: Sequence[int], seed: int, capacity: int) -> None:
        order = RowOrder(len(lengths), seed).numbers(0, len(lengths))
        self.bins = pack(lengths, order, capacity)
        super().__init__(len(self.bins), seed)

    def numbers(self, first: int, last: int) -> list[int]:
        """The rows of the bins from ``first`` up to ``last``."""
        return [row for i in range(first, last) for row in self.bins[self[i]]]


def padding_share(order: RowOrder, lengths: Sequence[int], batch_size: int) -> float:
    """The share of padding, from 0 to 1, among the tokens that padded batches of the first epoch compute."""
    computed = 0
    for first in range(0, order.units, batch_size):
        numbers = order.numbers(first, min(first + batch_size, order.units))
        computed += len(numbers) * max(lengths[i] for i in numbers)
    return 1 - sum(lengths) / computed if computed else 0.0
