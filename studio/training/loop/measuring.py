"""The validation loss during a training: on which rows, and with what memory there is.

It must not change the training: no random number is drawn, and running out of memory costs only time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from studio.objectives.objective import Objective
from studio.runs.context import StepContext
from studio.training.batch.batches import pad_rows, row_lengths
from studio.training.loop.validation import spread, validation_loss
from studio.training.loop.watch import StepWatch
from studio.training.model.load import free_memory
from studio.training.model.out_of_memory import is_out_of_memory, not_enough, what_to_change
from studio.training.tokens.encoder import Tokenized


class Evaluator:
    """Measures the validation loss of the model that ``watch`` follows, on rows chosen once."""

    def __init__(
        self,
        context: StepContext,
        watch: StepWatch,
        tokens: Tokenized,
        objective: Objective,
        pad_id: int,
    ) -> None:
        assert tokens.validation is not None
        self.context, self.watch, self.objective = context, watch, objective
        self.pad_id = pad_id
        self.rows = tokens.validation
        self.batch_size: int = watch.settings.batch_size
        numbers = spread(len(self.rows), watch.cadence.eval_rows)
        lengths = row_lengths(self.rows)
        self.numbers = sorted(numbers, key=lambda i: lengths[i])
        self._tell_rows()

    def __call__(self) -> float:
        """The mean loss per label token."""
        self.context.phase("evaluate", "Measuring the validation loss")
        trainer = self.watch.trainer
        if trainer.head is None:
            batch = pad_rows(self.rows, self.numbers[:1], self.pad_id)
            trainer.head = self.objective.choose_head(trainer.model, batch)
        loss = self._careful(trainer)
        self.context.emit("Phase", phase="train", title="Training")
        return loss

    def _careful(self, trainer: Any) -> float:
        """The loss, with half the rows at once whenever memory runs out."""
        while True:
            try:
                return validation_loss(
                    trainer.model,
                    self.rows,
                    self.numbers,
                    self.objective,
                    trainer.head,
                    self.batch_size,
                    self.pad_id,
                    self._progress,
                )
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                said = f"{type(error).__name__}: {error}"
            if self.batch_size == 1:
                watch = self.watch
                hint = what_to_change(watch.settings, watch.tuning.adapted, 1)
                raise not_enough(self.context, "evaluation", said, "max_length", hint)
            self.batch_size //= 2
            free_memory()
            self.context.notice(
                "Memory ran out in an evaluation; from now on evaluations take "
                f"{self.batch_size} rows at once.",
                level="info",
            )

    def _progress(self, done: int, total: int) -> None:
        self.context.progress("evaluate", done, total, "rows")

    def _tell_rows(self) -> None:
        if len(self.numbers) < len(self.rows):
            self.context.notice(
                f"The validation loss is measured on {len(self.numbers)} of {len(self.rows)} rows, so that "
                "it takes little time.",
                "Set “Evaluate every” to a number to use all rows.",
                "info",
            )


def evaluator_of(
    context: StepContext, watch: StepWatch, tokens: Tokenized, objective: Objective, pad_id: int
) -> Callable[[], float] | None:
    """The evaluator, or ``None`` when there is nothing to evaluate on."""
    if tokens.validation is None or not watch.cadence.eval_every:
        return None
    return Evaluator(context, watch, tokens, objective, pad_id)
