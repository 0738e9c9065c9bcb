"""Steps and tokens of a training, by the arithmetic of a run (``studio.runs.cadence``).

Also the tokens of its evaluations and samples, whose time counts, too.
"""

from __future__ import annotations

import random
from typing import Any

from studio.estimate.data_facts import DataFacts
from studio.runs.cadence import MOST_PROMPTS, Cadence, Length, cadence_of, length_of

_LOOK_AT = 2000


def rows_per_unit(train: Any, data: DataFacts) -> float:
    """Rows in one unit of a batch: one, or as many as a packed sequence holds."""
    if train.batching != "packed":
        return 1.0
    mean = max(1.0, min(data.mean, float(train.max_length)))
    return max(1.0, float(train.pack_length or train.max_length) / mean)


def optimizer_steps(train: Any, data: DataFacts | None) -> int | None:
    """The number of optimizer steps; ``None`` if it depends on unknown rows."""
    if train.max_steps:
        return int(train.max_steps)
    if data is None:
        return None
    return max(1, length_of(train, max(1, round(data.rows / rows_per_unit(train, data)))).steps)


def tokens_per_step(train: Any, data: DataFacts) -> float:
    """Tokens of an optimizer step, without padding."""
    rows = float(train.batch_size * train.gradient_accumulation_steps) * rows_per_unit(train, data)
    return rows * mean_length(train, data)


def mean_length(train: Any, data: DataFacts) -> float:
    """Tokens of a row as it is trained on."""
    return min(data.mean, float(train.max_length))


def padded_tokens(train: Any, data: DataFacts | None, padded: bool) -> float:
    """Tokens that batches hold for each token of a row: 1, and more with padding. From the rows that were looked
    at, in an order of their own."""
    if data is None or not padded or len(data.lengths) < 2:
        return 1.0
    lengths = [min(n, int(train.max_length)) for n in data.lengths[:_LOOK_AT]]
    size = int(train.batch_size)
    grouped = train.batching == "padded" and train.group_by_length
    random.Random(0).shuffle(lengths)
    if grouped:
        lengths.sort()
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return sum(len(b) * max(b) for b in batches) / max(1, sum(lengths))


def seen_tokens(train: Any, data: DataFacts | None, steps: int | None) -> int | None:
    """Tokens that training computes on, without padding."""
    if data is None or steps is None:
        return None
    if train.max_steps:
        return round(steps * tokens_per_step(train, data))
    return round(float(train.epochs) * data.rows * mean_length(train, data))


def measuring_tokens(train: Any, data: DataFacts | None) -> tuple[float, float]:
    """Tokens of all evaluations, and those that samples write at most."""
    if data is None:
        return 0.0, 0.0
    length = length_of(train, max(1, round(data.rows / rows_per_unit(train, data))))
    per_unit = rows_per_unit(train, data)
    rows = Length(
        round(length.rows * per_unit), length.steps, length.rows_per_step, length.epoch_rows
    )
    cadence = cadence_of(train, rows, data.validation)
    evaluated = _times(cadence.eval_every, length.steps) + cadence.at_start
    times = evaluated if cadence.eval_every else 0
    return (
        times * cadence.eval_rows * mean_length(train, data),
        _sampled(train, data, cadence, length.steps),
    )


def _times(every: int, steps: int) -> int:
    """How often an action is due that happens every ``every`` steps and at the end."""
    return steps // every + bool(steps % every) if every else 0


def _sampled(train: Any, data: DataFacts, cadence: Cadence, steps: int) -> float:
    lines = [line for line in str(train.sample_prompts).splitlines() if line.strip()]
    prompts = min(MOST_PROMPTS, len(lines) + min(train.sample_rows, data.validation))
    times = 1 + _times(cadence.eval_every or cadence.save_every, steps)
    return float(prompts * times * train.sample_max_tokens)
