"""The validation loss during a training.

It is the mean loss per label token, like the training loss, on held-out rows. Evaluation does not
affect the training: it draws no random number, and recovers from running out of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset

from studio.graph.context import StepContext
from studio.runs.cadence import Cadence
from studio.system.memory import is_on_gpu, out_of_memory_in
from studio.training.batch.batches import pad_rows, row_lengths
from studio.training.loop.sft import total_weight
from studio.training.loop.state import TrainingState
from studio.training.model.load import free_memory
from studio.training.model.out_of_memory import not_enough, what_to_change
from studio.training.tokens.encoder import Tokenized
from studio.variants.objective import Objective

if TYPE_CHECKING:
    from studio.node_settings.train import TrainSettings


class Evaluator:
    """Computes the validation loss of the model in ``state`` on a fixed selection of rows."""

    def __init__(
        self,
        context: StepContext,
        state: TrainingState,
        settings: TrainSettings,
        cadence: Cadence,
        rows: Dataset,
        pad_id: int,
    ) -> None:
        self.context, self.state, self.settings = context, state, settings
        self.rows, self.pad_id = rows, pad_id
        self.batch_size = settings.batch_size
        lengths = row_lengths(rows)
        numbers = evenly_spaced(len(rows), cadence.eval_rows)
        self.numbers = sorted(numbers, key=lambda i: lengths[i])
        if len(numbers) < len(rows):
            context.notice(
                f"The validation loss is computed on {len(numbers)} of {len(rows)} rows to save "
                "time.",
                "Set “Evaluate every” to a number to use all rows.",
                "info",
            )

    def __call__(self) -> float:
        """The mean loss per label token."""
        self.context.phase("evaluate", "Computing the validation loss")
        loss = self._loss_in_memory()
        self.context.emit("Phase", phase="train", title="Training")
        return loss

    def _loss_in_memory(self) -> float:
        """The loss; the batch size is halved whenever memory runs out."""
        tuning = self.state.tuning
        while True:
            try:
                head = self.state.choose_head(pad_rows(self.rows, self.numbers[:1], self.pad_id))
                return validation_loss(
                    tuning.model,
                    self.rows,
                    self.numbers,
                    self.state.objective,
                    head,
                    self.batch_size,
                    self.pad_id,
                    self._progress,
                )
            except Exception as error:
                reported = out_of_memory_in(error)
                if reported is None:
                    raise
                gpu = is_on_gpu(reported)
                del reported
            if self.batch_size == 1:
                hint = what_to_change(self.settings, tuning.adapted, 1)
                raise not_enough("evaluation", gpu, "max_length", hint)
            self.batch_size //= 2
            free_memory()
            self.context.notice(
                "Memory ran out during an evaluation; further evaluations use a batch size of "
                f"{self.batch_size}.",
                level="info",
            )

    def _progress(self, done: int, total: int) -> None:
        self.context.progress("evaluate", done, total, "rows")


def evaluator_of(
    context: StepContext,
    state: TrainingState,
    settings: TrainSettings,
    cadence: Cadence,
    tokens: Tokenized,
    pad_id: int,
) -> Callable[[], float] | None:
    """The evaluator, or ``None`` if there are no validation rows."""
    if tokens.validation is None or not cadence.eval_every:
        return None
    return Evaluator(context, state, settings, cadence, tokens.validation, pad_id)


def evenly_spaced(rows: int, wanted: int) -> list[int]:
    """``wanted`` row numbers evenly spaced over ``rows``."""
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
    """Mean loss per label token (per unit of weight) over the numbered rows; ``progress`` may raise to stop."""
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
