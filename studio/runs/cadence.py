"""The length of a training and its intervals of evaluation and checkpoints: plain arithmetic, no
torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from studio.node_settings.train import TrainSettings

AUTO_TIMES = 10
"How often a run evaluates and saves when the settings leave it to the studio."

AUTO_SHARE = 0.2
"Largest share of the training time that automatic evaluations may take."

MOST_PROMPTS = 64
"Maximum number of prompts that are answered in one batch."

FORWARD_SHARE = 1 / 3  # of a training step's work on the same row
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class Length:
    """``rows`` are all rows that training sees, epoch after epoch, in ``steps`` optimizer steps."""

    rows: int
    steps: int
    rows_per_step: int
    epoch_rows: int

    def epoch(self, step: int) -> float:
        """How many epochs are done after ``step``."""
        return min(step * self.rows_per_step, self.rows) / self.epoch_rows


def length_of(settings: TrainSettings, epoch_rows: int) -> Length:
    """The length of a training on ``epoch_rows`` rows."""
    per_step = settings.batch_size * settings.gradient_accumulation_steps
    if settings.max_steps:
        rows = settings.max_steps * per_step
    else:
        rows = max(1, round(settings.epochs * epoch_rows))
    return Length(rows, math.ceil(rows / per_step), per_step, epoch_rows)


@dataclass(frozen=True)
class Cadence:
    """The intervals in steps of evaluation (0: never) and of checkpoints, and the number of rows to
    evaluate.

    With ``save_auto`` a checkpoint may be left out when it would cost too much time. ``at_start``
    also evaluates before the first step.
    """

    eval_every: int
    save_every: int
    eval_rows: int
    save_auto: bool = False
    at_start: bool = False

    def evaluates(self, step: int, steps: int) -> bool:
        """Whether the validation loss is measured after ``step``."""
        if step == 0:
            return bool(self.eval_every) and self.at_start
        return bool(self.eval_every) and (step % self.eval_every == 0 or step == steps)

    def samples(self, step: int, steps: int) -> bool:
        """Whether the prompts are answered after ``step``: at the start, at the end and at every
        evaluation; without validation rows as often as checkpoints are due."""
        every = self.eval_every or self.save_every
        return step % every == 0 or step == steps

    def saves(self, step: int, steps: int) -> bool:
        """Whether a checkpoint is written after ``step``; the last one has a reason of its own."""
        return step % self.save_every == 0 and step != steps


def cadence_of(settings: TrainSettings, length: Length, validation_rows: int) -> Cadence:
    """The cadence that the settings ask for.

    An automatic evaluation uses so few rows that all of them together cost at most ``AUTO_SHARE``
    of the training; a cadence that the user sets uses every row.
    """
    by_itself = not settings.save_steps
    auto = max(1, math.ceil(length.steps / AUTO_TIMES))
    save_every = settings.save_steps or auto
    if not validation_rows:
        return Cadence(0, save_every, 0, by_itself)
    asked = _asked_eval_every(settings, length)
    if asked:
        return Cadence(asked, save_every, validation_rows, by_itself, settings.eval_at_start)
    times = math.ceil(length.steps / auto)
    affordable = int(AUTO_SHARE * length.rows / FORWARD_SHARE / times)
    eval_rows = min(validation_rows, max(_FEWEST_ROWS, affordable))
    return Cadence(auto, save_every, eval_rows, by_itself, settings.eval_at_start)


def _asked_eval_every(settings: TrainSettings, length: Length) -> int:
    """The evaluation interval in steps that the user has set; 0 if it is automatic."""
    if settings.eval_by == "steps":
        return int(settings.eval_steps)
    by_epoch = settings.eval_by == "epoch"
    unit = length.epoch_rows / length.rows_per_step if by_epoch else length.steps
    return max(1, round(float(settings.eval_share) * unit))
