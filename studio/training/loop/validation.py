"""The validation loss: the same figure as the training loss, on rows kept apart.

It draws no random number and keeps no logits, so that measuring never changes the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset

from studio.objectives.objective import Objective
from studio.training.batch.batches import pad_rows
from studio.training.loop.sft import total_weight


def spread(rows: int, wanted: int) -> list[int]:
    """``wanted`` row numbers spread evenly over ``rows``."""
    return [i * rows // wanted for i in range(min(rows, wanted))]


def validation_loss(
    model: Any,
    rows: Dataset,
    numbers: list[int],
    objective: Objective,
    head: Any,
    batch_size: int,
    pad_id: int,
    progress: Callable[[int, int], None],
) -> float:
    """Mean loss per label token (per unit of weight) over the numbered rows; ``progress`` is also the stop point."""
    device = next(model.parameters()).device
    total, count = 0.0, 0.0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(numbers), batch_size):
            progress(first, len(numbers))
            batch = pad_rows(rows, numbers[first : first + batch_size], pad_id)
            batch = {name: value.to(device) for name, value in batch.items()}
            total += float(objective.summed_loss(model, batch, head))
            count += float(total_weight(batch))
    model.train()
    progress(len(numbers), len(numbers))
    return total / count if count else 0.0
