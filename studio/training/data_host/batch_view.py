"""The rows of one training batch, with the same padding as in training.

The order is the one of the training (``studio.training.batch.row_order``). Which rows take part is
determined by one pass over all rows, whose source does not matter here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from studio.data.canonical import content_hash
from studio.data.split.sides import SidesInOrder
from studio.node_settings.dataset import DatasetSettings
from studio.preview.tokens import IGNORED, Token, TokenRow
from studio.training.batch.row_order import GroupedOrder, PackedOrder, RowOrder, padding_share
from studio.training.report.row_facts import Facts


@dataclass(frozen=True)
class Unit:
    """A row of the training: a part of row ``number`` with ``length`` tokens after truncation."""

    number: int
    part: int
    length: int


class TrainingRows:
    """The rows used in training, in the order of the data.

    ``settings`` are those of the Dataset node, or ``None`` for rows that were split before.
    """

    def __init__(self, settings: DatasetSettings | None) -> None:
        self._sides = SidesInOrder(settings)
        self._units: list[Unit] = []

    def add(self, facts: Facts) -> None:
        """Add the next row of the data."""
        item = facts.item
        if item.row is None or item.split == "left_out":
            return
        self._sides.add(item.number, item.split == "validation", content_hash(item.row))
        self._units += [
            Unit(item.number, part, flags.kept)
            for part, flags in enumerate(facts.parts, start=1)
            if flags.trained
        ]

    def units(self) -> list[Unit]:
        """The training rows, when all rows have been added."""
        trained = set(self._sides.numbers[self._sides.decision(all_rows=True).train].tolist())
        return [u for u in self._units if u.number in trained]


def order_of(units: Sequence[Unit], settings: Mapping[str, Any]) -> RowOrder:
    """The order of these rows in a training with these settings."""
    lengths, seed = [u.length for u in units], int(settings["seed"])
    if settings["batching"] == "packed":
        room = int(settings.get("pack_length") or settings["max_length"])
        return PackedOrder(lengths, seed, max(room, max(lengths)))
    if is_padded(settings) and settings.get("group_by_length") and len(units) > 1:
        return GroupedOrder(lengths, seed, int(settings["batch_size"]))
    return RowOrder(len(units), seed)


def is_padded(settings: Mapping[str, Any]) -> bool:
    """Whether a training with these settings pads its rows, if its model does not need it."""
    return bool(settings["batching"] == "padded")


def padding_of(units: Sequence[Unit], settings: Mapping[str, Any]) -> float | None:
    """The share of padding in the first epoch; ``None`` without padding."""
    if not units or not is_padded(settings):
        return None
    lengths = [u.length for u in units]
    return padding_share(order_of(units, settings), lengths, int(settings["batch_size"]))


def batch_of(
    units: Sequence[Unit], settings: Mapping[str, Any], number: int
) -> tuple[list[Unit], int]:
    """The rows of batch ``number`` of the first epoch, from 1, and the number of batches."""
    if not units:
        return [], 0
    order, size = order_of(units, settings), int(settings["batch_size"])
    first = (number - 1) * size
    chosen = order.numbers(first, min(first + size, order.units)) if first < order.units else []
    return [units[i] for i in chosen], math.ceil(order.units / size)


def padded(rows: Sequence[TokenRow], pad_id: int, pad_text: str) -> list[TokenRow]:
    """The rows as the model receives them: truncated, and padded to the longest one."""
    width = max((len(r.kept) for r in rows), default=0)
    pad = Token(pad_id, pad_text, "padding", IGNORED, None, None, True)
    return [
        replace(r, tokens=(*r.kept, *[pad] * (width - len(r.kept))), roles=(), more_cut=0)
        for r in rows
    ]
