"""Optimizer steps and tokens of a training, by the same arithmetic as ``studio.training.loop.schedule``."""

from __future__ import annotations

import math
from typing import Any

from studio.estimate.data_facts import DataFacts


def rows_per_unit(train: Any, data: DataFacts) -> float:
    """Rows in one unit of a batch: one, or as many as a packed sequence holds."""
    if train.batching != "packed":
        return 1.0
    mean = max(1.0, min(data.mean, float(train.max_length)))
    return max(1.0, float(train.pack_length or train.max_length) / mean)


def optimizer_steps(train: Any, data: DataFacts | None) -> int | None:
    """Optimizer steps; ``None`` where it depends on rows that are not known."""
    if train.max_steps:
        return int(train.max_steps)
    if data is None:
        return None
    per_step = int(train.batch_size * train.gradient_accumulation_steps)
    units: float = data.rows / rows_per_unit(train, data)
    rows = max(1, round(float(train.epochs) * units))
    return max(1, math.ceil(rows / per_step))


def seen_tokens(train: Any, data: DataFacts | None, steps: int | None) -> int | None:
    """Tokens that training computes on, without padding."""
    if data is None or steps is None:
        return None
    per_step = float(train.batch_size * train.gradient_accumulation_steps) * rows_per_unit(
        train, data
    )
    rows = steps * per_step if train.max_steps else float(train.epochs) * data.rows
    return round(rows * min(data.mean, float(train.max_length)))
