"""The end of a training: whether it is there, what is still missing, and why it came early.

Why apart: a run may be stopped between its last step and what is due after it, and must not end with less
than one that was never stopped. It must not train or measure.
"""

from __future__ import annotations

from typing import Any

from studio.node_settings.schedules import rate_factor
from studio.runs.cadence import Cadence
from studio.training.loop.figures import Figures


class TrainingOver(Exception):
    """No step is left to train: what was missing after the last one has been made up for."""


def is_complete(figures: Figures, cadence: Cadence, step: int, steps: int) -> bool:
    """Whether everything that is due after ``step`` has been done."""
    measured = figures.last_eval_step >= step or not cadence.evaluates(step, steps)
    sampled = figures.sampled_step >= step or not cadence.samples(step, steps)
    return measured and sampled


def is_untrained(settings: Any, step: int, steps: int) -> bool:
    """Whether nothing can have been learned yet: the first step of a warm-up has rate 0."""
    return step == 0 or (step == 1 and not rate_factor(settings, 0, steps))


def why_early(figures: Figures) -> str:
    """The sentence about an early end."""
    waited, best = int(figures.waited), int(figures.best_eval_step)
    times = "evaluation" if waited == 1 else f"{waited} evaluations"
    reason = f"The validation loss has not fallen in the last {times}"
    if figures.untrained_loss < figures.best_eval_loss:
        reason += f"; it was lowest before the training: {figures.untrained_loss:.4g}"
    elif best >= 0:
        reason += f"; it was lowest after step {best}: {figures.best_eval_loss:.4g}"
    return reason + "."
