"""The optimizer steps of a training, and going on when memory runs out in one of them.

Why a loop around the Trainer: when a step does not fit, everything of that pass is let go, and a new one
begins at the step that failed, with half the micro-batch. Weights, optimizer and random numbers are as
after the last whole step, and each optimizer step holds the same rows in the same order as before. It
must not go on when the optimizer's own update failed: the weights may be half moved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from studio.objectives.objective import LossOptions, Objective
from studio.runs.cadence import Length
from studio.runs.context import StepContext
from studio.training.adapter.tuning import Tuning
from studio.training.batch.batches import Batch
from studio.training.batch.batching import BatchPlan
from studio.training.loop.ending import TrainingOver
from studio.training.loop.optim import build_optimizer, build_schedule
from studio.training.loop.trainer import StudioTrainer, training_arguments
from studio.training.loop.watch import StepWatch
from studio.training.model.load import free_memory, pick_device
from studio.training.model.out_of_memory import is_out_of_memory, not_enough, what_to_change

MOST_RECOVERIES = 3


@dataclass(frozen=True)
class Job:
    """Everything that the steps of one training need."""

    context: StepContext
    tuning: Tuning
    plan: BatchPlan
    settings: Any
    length: Length
    objective: Objective
    watch: StepWatch

    @property
    def micro_batch(self) -> int:
        """Units computed at once: as set, or what was left of it when memory ran out."""
        return int(self.watch.figures.micro_batch) or self.settings.batch_size

    @property
    def accumulation(self) -> int:
        """Micro-batches of an optimizer step."""
        return math.ceil(self.length.rows_per_step / self.micro_batch)


class StepBatches:
    """The micro-batches of the units from ``start`` to ``stop``, cut anew at each optimizer step.

    Like this any size of micro-batch leaves every optimizer step the same units in the same order.
    """

    def __init__(self, plan: BatchPlan, start: int, stop: int, per_step: int, micro: int) -> None:
        self.plan = plan
        self.start, self.stop, self.per_step, self.micro = start, stop, per_step, micro
        self.dataset = range(start, stop)  # what the Trainer counts as examples

    def __len__(self) -> int:
        return sum(1 for _ in self._cuts(self.start))

    def __iter__(self) -> Iterator[Batch]:
        for first, last in self._cuts(self.start):
            yield from self.plan.batches(first, last, last - first)

    def numbers(self, step: int, micro_batches: Any) -> list[int]:
        """Rows of some micro-batches of optimizer step ``step`` (from 0, of the whole run)."""
        begin = step * self.per_step
        end = min(begin + self.per_step, self.stop)
        cuts = [c for c in self._cuts(begin) if c[0] < end]
        return [n for i in micro_batches for n in self.plan.order.numbers(*cuts[i])]

    def _cuts(self, start: int) -> Iterator[tuple[int, int]]:
        for begin in range(start, self.stop, self.per_step):
            end = min(begin + self.per_step, self.stop)
            for first in range(begin, end, self.micro):
                yield first, min(first + self.micro, end)


def run_steps(job: Job) -> None:
    """Run the optimizer steps that are left, with smaller micro-batches where memory runs out."""
    optimizer = build_optimizer(job.tuning.model, job.settings, job.tuning.rate)
    schedule = build_schedule(optimizer, job.settings, job.length.steps)
    while True:
        failure = _pass(job, optimizer, schedule)
        if failure is None:
            return
        job.watch.let_go()
        free_memory()
        _halve(job, failure)


def _pass(job: Job, optimizer: torch.optim.Optimizer, schedule: Any) -> str | None:
    """Train from where the watch stands; the allocator's words when memory ran out.

    The words only, not the error: its traceback would keep the tensors of the step alive.
    """
    trainer = _trainer(job, optimizer, schedule)
    job.watch.trainer = trainer
    try:
        trainer.train()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {error}"
    except TrainingOver:
        return None
    finally:  # without autocast again, and nothing held by accelerate
        trainer.accelerator.unwrap_model(job.tuning.model, keep_fp32_wrapper=False)
        trainer.accelerator.free_memory()
    return None


def _trainer(job: Job, optimizer: torch.optim.Optimizer, schedule: Any) -> StudioTrainer:
    settings, length, done = job.settings, job.length, job.watch.step
    batches = StepBatches(
        job.plan, done * length.rows_per_step, length.rows, length.rows_per_step, job.micro_batch
    )
    cut = settings.model_copy(
        update={"batch_size": job.micro_batch, "gradient_accumulation_steps": job.accumulation}
    )
    args = training_arguments(
        cut,
        job.tuning.adapted.model.dtype,
        max(1, length.steps - done),
        pick_device(),
        job.context.folder / "scratch",
    )
    return StudioTrainer(
        job.tuning.model,
        args,
        batches,
        job.objective,
        optimizer,
        schedule,
        job.watch,
        job.tuning.penalty,
        LossOptions(settings.label_smoothing, settings.z_loss, settings.neftune_alpha),
    )


def _halve(job: Job, failure: str) -> None:
    """Half the micro-batch, at most three times; else say what to change."""
    figures = job.watch.figures
    spent = figures.recoveries >= MOST_RECOVERIES or job.micro_batch == 1
    if spent or job.watch.updating:
        raise not_enough(
            job.context,
            "training",
            failure,
            "gradient_checkpointing",
            what_to_change(job.settings, job.tuning.adapted, job.micro_batch),
        )
    figures.micro_batch = job.micro_batch // 2
    figures.recoveries += 1
    step = min(job.watch.step + 1, job.length.steps)  # it may have run out after the last one
    job.context.emit(
        "MemoryRecovered",
        step=step,
        batch_size=job.micro_batch,
        accumulation=job.accumulation,
        attempt=int(figures.recoveries),
        most=MOST_RECOVERIES,
    )
    job.context.notice(
        f"Memory ran out in step {step}. It goes on there with batches of "
        f"{job.micro_batch} and an accumulation of {job.accumulation}: the same rows in each step.",
        "Set these numbers in the Train node to begin with them next time.",
    )


def in_rows(length: Length, plan: BatchPlan) -> Length:
    """The length counted in rows, where the plan's units hold several."""
    return dataclasses.replace(length, rows=round(length.rows * plan.rows_per_unit))
