"""The training loop. ``TrainingLoop.train_step`` is one optimizer step from its micro-batches to
its checkpoint.

It replaces the transformers Trainer, so that the order of a step can be read in one place;
accelerate provides device, autocast and loss scaling. When memory runs out in a step, a new pass
begins at that step with half the micro-batch, down to 1, then with gradient checkpointing: weights,
optimizer and random numbers are as after the last completed step, and every optimizer step sees the
same rows in the same order. A failed
update of the optimizer ends the run instead, because some of its weights may have changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch
from safetensors import SafetensorError
from transformers import set_seed

from studio.errors import Stopped, StudioError
from studio.graph.context import StepContext
from studio.node_settings.schedules import rate_factor
from studio.runs.cadence import Cadence, Length
from studio.system.memory import is_on_gpu, out_of_memory_in, read_memory
from studio.training.adapter.insight import InsightMeter
from studio.training.batch.batches import Batch, tokens_in
from studio.training.batch.batching import BatchPlan
from studio.training.fused.swap import Fused
from studio.training.loop.fusing import fuse_checked
from studio.training.loop.noise import noisy_embeddings
from studio.training.loop.nonfinite import diverged
from studio.training.loop.optim import build_optimizer, build_schedule
from studio.training.loop.saver import Saver
from studio.training.loop.sft import total_weight
from studio.training.loop.state import (
    TrainingState,
    can_checkpoint,
    enable_gradient_checkpointing,
    make_accelerator,
    release,
)
from studio.training.model.load import free_memory
from studio.training.model.out_of_memory import not_enough, what_to_change
from studio.training.model.spilling import SlowDown
from studio.training.saved.checkpoint import Checkpoint
from studio.training.saved.snapshot import read_random
from studio.variants.objective import LossOptions

if TYPE_CHECKING:
    from studio.node_settings.train import TrainSettings

USUAL_SKIPPED, MOST_SKIPPED = 16, 0.02
"""Steps that loss scaling may skip until its factor fits, and the share of the steps above which they are many."""
STOP_SAVE_BUDGET_S = 3.0
"""A stop writes a checkpoint when the last one took less time than this."""


class TrainingLoop:
    """Runs the optimizer steps of one training, from the first or the resumed one to the last.

    ``evaluate()`` gives the validation loss, ``sample(step, command)`` writes samples, and
    ``row_places(numbers)`` describes training rows; they are set before ``run``.
    """

    def __init__(
        self,
        context: StepContext,
        settings: TrainSettings,
        plan: BatchPlan,
        length: Length,
        cadence: Cadence,
        state: TrainingState,
        saver: Saver,
    ) -> None:
        self.context, self.settings = context, settings
        self.plan, self.length, self.cadence = plan, length, cadence
        self.state, self.saver = state, saver
        self.evaluate: Callable[[], float] | None = None
        self.sample: Callable[[int, dict[str, Any] | None], None] | None = None
        self.insight: InsightMeter | None = None
        self.row_places: Callable[[Sequence[int]], list[dict[str, Any]]] = lambda numbers: []
        self.loss_options = LossOptions(
            settings.label_smoothing, settings.z_loss, settings.neftune_alpha
        )
        self.optimizer: Any = None  # accelerate's wrapper of the state's optimizer
        self.micro_losses: list[torch.Tensor] = []  # of the current step
        self._updating = False
        self._pass_began = self._step_ended = 0.0
        self._first_step = 0
        self._slow_down: SlowDown | None = None

    @property
    def micro_batch(self) -> int:
        """Units per forward pass: the batch size, or less after memory ran out."""
        return int(self.state.metrics.micro_batch) or self.settings.batch_size

    @property
    def recomputes_activations(self) -> bool:
        """Whether gradient checkpointing is on, by the settings or after memory ran out."""
        return self.settings.gradient_checkpointing or bool(self.state.metrics.checkpointing)

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimizer step."""
        return math.ceil(self.length.rows_per_step / self.micro_batch)

    @property
    def batches(self) -> StepBatches:
        """The micro-batches of each optimizer step."""
        return StepBatches(self.plan, self.length, self.micro_batch)

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping has run out of patience."""
        patience = self.settings.early_stopping
        return bool(patience) and self.state.metrics.waited >= patience

    @property
    def last_step(self) -> int:
        """The step with which the training ends: that of a Finish request, else the last one."""
        asked_at = int(self.state.metrics.finish_step)
        return asked_at if asked_at >= 0 else self.length.steps

    @property
    def finished(self) -> bool:
        """Whether all steps are trained, or the training has ended before."""
        return self.state.step >= self.last_step or self.stopped_early

    @property
    def up_to_date(self) -> bool:
        """Whether the evaluation and the samples that are due after this step were done before a stop."""
        metrics, step, last = self.state.metrics, self.state.step, self.last_step
        evaluated = metrics.last_eval_step >= step or not self.cadence.evaluates(step, last)
        sampled = metrics.sampled_step >= step or not self.cadence.samples(step, last)
        return evaluated and sampled

    # ------------------------------------------------------------------ a pass, a step

    def run(self, resumed: Checkpoint | None = None) -> None:
        """Run the remaining steps, with less memory per step when it runs out."""
        tuning, state = self.state.tuning, self.state
        state.optimizer = build_optimizer(tuning.model, self.settings, tuning.rate)
        state.scheduler = build_schedule(state.optimizer, self.settings, self.length.steps)
        ran_out = self._pass(resumed)
        while ran_out is not None:
            state.suspend()
            self.optimizer = None
            self.micro_losses = []
            free_memory()
            self._save_memory(ran_out)
            ran_out = self._pass(resumed)
        self._tell_skipped()

    def _tell_skipped(self) -> None:
        """Report the steps that loss scaling skipped; the first few, until it has found its factor, are usual."""
        skipped, steps = int(self.state.metrics.skipped_steps), self.state.step
        if skipped:
            many = skipped > max(USUAL_SKIPPED, steps * MOST_SKIPPED)
            self.context.notice(
                f"{skipped} of {steps} steps did not change the weights: their gradients overflowed in float16, "
                "and loss scaling skipped them.",
                "Set Precision to float32 in the Base model node, or lower the learning rate."
                if many
                else "",
                level="warning" if many else "info",
            )

    def _pass(self, resumed: Checkpoint | None) -> Literal["GPU", "CPU"] | None:
        """Train from the current step. Returns whose memory ran out, if it did.

        Not the error: its traceback would keep the tensors of the step alive.
        """
        set_seed(self.settings.seed)
        state, model = self.state, self.state.tuning.model
        accelerator = make_accelerator(state.tuning.adapted.model.dtype, model)
        state.accelerator, state.head = accelerator, None
        if self.recomputes_activations:
            enable_gradient_checkpointing(model)
        fused = Fused()
        try:
            _, self.optimizer = accelerator.prepare(model, state.optimizer)
            model.zero_grad()
            fused = self._fuse()
            state.restore(resumed)
            self._catch_up()
            self._pass_began = self._step_ended = time.perf_counter()
            self._first_step = state.step
            self._slow_down = SlowDown(self.context, accelerator.device)
            while not self.finished:
                self.train_step(self.batches.of_step(state.step))
        except Exception as error:
            reported = out_of_memory_in(error)
            if reported is None:
                raise
            return "GPU" if is_on_gpu(reported) else "CPU"
        finally:
            fused.undo()
            release(accelerator, model)
        return None

    def _fuse(self) -> Fused:
        """Use the fused functions, if they are wanted and give what the plain ones give."""
        if not self.settings.fused:
            return Fused()
        return fuse_checked(
            self.context, self.state, self.plan.rows, self.plan.pad_id, self.plan.padding_free
        )

    def train_step(self, batches: Sequence[Batch]) -> None:
        """One optimizer step, and everything that is due after it.

        This order makes a resumed run equal to an uninterrupted one: a checkpoint includes the
        metrics, evaluation and samples of its step.
        """
        state, model = self.state, self.state.tuning.model

        label_weight = self._label_weight(batches)
        step_loss = torch.zeros((), device=state.accelerator.device)
        self.micro_losses = []
        for batch in batches:
            self._check_commands()
            loss, penalty = self.forward_backward(batch, label_weight, len(batches))
            self.micro_losses.append(loss)
            step_loss += loss - penalty

        grad_norm = self._clip_gradients()
        self._refuse_non_finite(grad_norm)
        state.tuning.before_step(state.step + 1)
        self._updating = True
        self.optimizer.step()
        if not math.isfinite(grad_norm):  # loss scaling skipped the step
            model.zero_grad(set_to_none=False)
        state.tuning.after_step(state.step + 1)
        self._updating = False

        learning_rate = state.scheduler.get_last_lr()[0]
        if state.accelerator.optimizer_step_was_skipped:
            state.metrics.skipped_steps += 1
        else:
            state.scheduler.step()
        model.zero_grad()
        state.step += 1
        state.random_state = read_random()

        tokens = sum(map(tokens_in, batches))
        self._report(float(step_loss), tokens, float(learning_rate), grad_norm)
        self._finish_if_asked()
        self._evaluate_if_due()
        self._sample_if_due()
        if self._finish_if_asked():  # during a long evaluation
            self._evaluate_if_due()
            self._sample_if_due()
        self._measure_insight_if_due()
        self._save_if_due()
        self._stop_if_due()
        self._step_ended = time.perf_counter()

    # ------------------------------------------------------------------ forward and backward

    def forward_backward(
        self, batch: Batch, label_weight: torch.Tensor, micro_batches: int
    ) -> tuple[torch.Tensor, float]:
        """Add the gradients of one micro-batch.

        Returns its part of the step's loss, and how much of that is the method's penalty, which is
        divided among the ``micro_batches`` of the step.
        """
        state, model = self.state, self.state.tuning.model
        model.train()
        device = state.accelerator.device
        batch = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}
        head = state.choose_head(batch)
        with noisy_embeddings(model, batch, self.loss_options.neftune_alpha):
            summed = state.objective.summed_loss(model, batch, head, self.loss_options)
        loss, penalty = summed / label_weight, state.tuning.penalty()
        if penalty is not None:
            penalty = penalty / micro_batches
            loss = loss + penalty
        del batch, summed
        state.accelerator.backward(loss)
        return loss.detach(), 0.0 if penalty is None else float(penalty.detach())

    def _label_weight(self, batches: Sequence[Batch]) -> torch.Tensor:
        """Label tokens of the optimizer step, or the sum of their weights where they have weights."""
        total = sum((total_weight(b).double() for b in batches), torch.zeros(()).double())
        if any("weights" in batch for batch in batches):
            total = total.clamp(min=torch.finfo(torch.float32).tiny)
        return total.float().to(self.state.accelerator.device)

    def _clip_gradients(self) -> float:
        """Clip to the maximum norm, if set. Returns the norm before clipping."""
        parameters = self.state.tuning.model.parameters()
        limit = self.settings.max_grad_norm or math.inf
        return float(self.state.accelerator.clip_grad_norm_(parameters, limit))

    def _refuse_non_finite(self, grad_norm: float) -> None:
        """Raise for a loss or gradient that is not finite, before it reaches the weights."""
        losses = [float(loss) for loss in self.micro_losses]
        bad = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            raise self._diverged("loss", losses[bad[0]], bad)
        if not math.isfinite(grad_norm) and not self.state.is_loss_scale_reducible:
            raise self._diverged("gradient", grad_norm, range(len(losses)))

    def _diverged(self, what: str, value: float, micro_batches: Sequence[int]) -> StudioError:
        """Save the last step, whose weights are finite, and report the error."""
        state, saver = self.state, self.saver
        if state.step > 0:
            with contextlib.suppress(OSError, SafetensorError):
                saver.save("finite")
        rows = self.row_places(self.batches.row_numbers(state.step, micro_batches))
        return diverged(self.context, state.step + 1, what, value, rows, saver.newest_step)

    # ------------------------------------------------------------------ after the update

    def _report(self, loss: float, tokens: int, learning_rate: float, grad_norm: float) -> None:
        now = time.perf_counter()
        metrics, step, steps = self.state.metrics, self.state.step, self.length.steps
        seconds = now - self._step_ended
        metrics.last_loss = loss
        metrics.tokens += tokens
        metrics.seconds += seconds
        if self._slow_down is not None:
            self._slow_down.step(seconds, tokens)
        eta = round((now - self._pass_began) / (step - self._first_step) * (steps - step), 1)
        self.context.emit(
            "Metric",
            step=step,
            steps=steps,
            epoch=round(self.length.epoch(step), 4),
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_s=round(tokens / max(seconds, 1e-9), 2),
            tokens=tokens,
            eta_s=eta,
            **read_memory(),
        )
        self.context.emit(
            "Progress", phase="train", done=step, total=steps, unit="steps", eta_s=eta
        )

    def _finish_if_asked(self) -> bool:
        """End the training with this step, as its last one, if the user asks for it.

        The request is part of the metrics: a run killed afterwards does not train on when resumed.
        """
        asked = self.context.take_command("finish") is not None
        if asked and not self.finished:
            self.state.metrics.finish_step = self.state.step
        return asked

    def _evaluate_if_due(self) -> None:
        state, step, steps = self.state, self.state.step, self.length.steps
        due = self.cadence.evaluates(step, self.last_step)
        if self.evaluate is None or not due or state.metrics.last_eval_step >= step:
            return
        try:
            loss = self.evaluate()
        except Stopped:
            self._stop()
        if not math.isfinite(loss):
            self.context.notice(
                f"The validation loss after step {step} is not finite ({loss}); this evaluation "
                "counts as no improvement.",
                "Look for very long or damaged validation rows.",
            )
        # The first step of a warm-up has a learning rate of 0.
        untrained = step == 0 or (step == 1 and not rate_factor(self.settings, 0, steps))
        best = state.metrics.record_evaluation(step, loss, self.settings.min_delta, untrained)
        self.context.emit(
            "Metric",
            step=step,
            steps=steps,
            eval_loss=loss,
            epoch=round(self.length.epoch(step), 4),
            eval_rows=self.cadence.eval_rows,
        )
        if best and self.settings.keep == "best":
            self.saver.save_best()

    def _sample_if_due(self) -> None:
        metrics, step = self.state.metrics, self.state.step
        if metrics.sampled_step < step and self.cadence.samples(step, self.last_step):
            self._sample(None)
            metrics.sampled_step = step
        self._sample_if_asked()

    def _sample_if_asked(self) -> None:
        command = self.context.take_command("sample")
        if command is not None:
            self._sample(command)

    def _sample(self, command: dict[str, Any] | None) -> None:
        if self.sample is None:
            return
        try:
            self.sample(self.state.step, command)
        except Stopped:
            self._stop()

    def _measure_insight_if_due(self) -> None:
        """Measure the change of the layers: with each evaluation (or with checkpoints if there is
        none), and at the end.
        """
        step, last = self.state.step, self.last_step
        due = self.cadence.evaluates if self.cadence.eval_every > 0 else self.cadence.saves
        if self.insight is not None and (self.finished or due(step, last)):
            found = self.insight.measure(step)
            if found.modules:
                self.context.emit("Insight", **found.to_json())

    def _save_if_due(self) -> None:
        asked = self.context.take_command("save") is not None
        due = self.cadence.saves(self.state.step, self.last_step)
        if self.finished:
            self.saver.save("end")
        elif asked:
            self.saver.save("save")
        elif due and (not self.cadence.save_auto or self.saver.affordable()):
            self.saver.save("cadence")

    def _stop_if_due(self) -> None:
        if self.state.step >= self.length.steps:
            return
        if self.finished:
            self.report_early_stop()
        elif self.context.stop_requested():
            self._stop()

    def report_early_stop(self) -> None:
        """Report why the training ends before its last step."""
        metrics = self.state.metrics
        best = int(metrics.best_eval_step)
        if metrics.finish_step >= 0:
            self.context.reusable = False
        self.context.emit(
            "EarlyStopped",
            step=self.state.step,
            steps=self.length.steps,
            reason=metrics.early_stop_reason(),
            best_step=best if best >= 0 else None,
            best_eval_loss=metrics.best_eval_loss,
        )

    # ------------------------------------------------------------------ stop, catch up, recover

    def _check_commands(self) -> None:
        """Before each forward pass: stop if requested, and answer prompts sent by the user."""
        if self.context.stop_requested():
            self._stop()
        self._sample_if_asked()

    def _stop(self) -> NoReturn:
        """Save the last completed step if that is quick, then end the run."""
        if self.state.step > 0 and self.saver.seconds < STOP_SAVE_BUDGET_S:
            self.saver.save("stop")
        raise Stopped(self.context.node)

    def _catch_up(self) -> None:
        """Do what is due before the first step, or was still due when the run was stopped."""
        state = self.state
        if state.step > 0:
            self._finish_if_asked()
        elif self.context.take_command("finish") is not None:
            self.context.notice(
                "Finish was requested before the first step of this training: there is nothing to "
                "keep yet, and the training goes on."
            )
        interrupted = state.step > 0 and not self.up_to_date
        self._evaluate_if_due()
        self._sample_if_due()
        if interrupted or self.finished:
            self._measure_insight_if_due()
        if self.finished:
            self.saver.save("end")
            if self.state.step < self.length.steps:
                self.report_early_stop()

    def _save_memory(self, ran_out: Literal["GPU", "CPU"]) -> None:
        """Halve the micro-batch, at 1 turn on gradient checkpointing; raise with what to change if
        neither can help."""
        metrics, tuning = self.state.metrics, self.state.tuning
        last_resort = not self.recomputes_activations and can_checkpoint(tuning.model)
        if self._updating or (self.micro_batch == 1 and not last_resort):
            hint = what_to_change(
                self.settings, tuning.adapted, self.micro_batch, checkpointing=last_resort
            )
            field = "gradient_checkpointing" if last_resort else "optimizer"
            raise not_enough("training", ran_out == "GPU", field, hint)
        if self.micro_batch > 1:
            metrics.micro_batch = self.micro_batch // 2
        else:
            metrics.checkpointing = 1
        metrics.recoveries += 1
        step = min(self.state.step + 1, self.length.steps)  # it may have run out after the last one
        self.context.emit(
            "MemoryRecovered",
            step=step,
            batch_size=self.micro_batch,
            accumulation=self.accumulation,
            checkpointing=bool(metrics.checkpointing),
            attempt=int(metrics.recoveries),
        )
        size, times = f"a batch size of {self.micro_batch}", self.accumulation
        with_less = f"{size} and a gradient accumulation of {times}"
        if metrics.checkpointing:
            with_less = (
                f"{size}, a gradient accumulation of {times} and gradient checkpointing, which is "
                "slower"
            )
        self.context.notice(
            f"Memory ran out in step {step}. Training continues with {with_less}; each step has the "
            "same rows as before.",
            "Set these values in the Train node to use them from the start of the next run.",
        )


class StepBatches:
    """The micro-batches of each optimizer step.

    A step has the same units in the same order for any ``micro_batch``.
    """

    def __init__(self, plan: BatchPlan, length: Length, micro_batch: int) -> None:
        self.plan, self.length, self.micro_batch = plan, length, micro_batch

    def of_step(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step ``step`` (from 0)."""
        return [
            batch
            for first, last in self._ranges(step)
            for batch in self.plan.batches(first, last, last - first)
        ]

    def row_numbers(self, step: int, micro_batches: Iterable[int]) -> list[int]:
        """The rows in some micro-batches of optimizer step ``step`` (from 0)."""
        ranges = list(self._ranges(step))
        return [n for i in micro_batches for n in self.plan.order.numbers(*ranges[i])]

    def _ranges(self, step: int) -> Iterator[tuple[int, int]]:
        begin = step * self.length.rows_per_step
        end = min(begin + self.length.rows_per_step, self.length.rows)
        for first in range(begin, end, self.micro_batch):
            yield first, min(first + self.micro_batch, end)


def in_rows(length: Length, plan: BatchPlan) -> Length:
    """The length counted in rows, where the plan's units hold several."""
    return dataclasses.replace(length, rows=round(length.rows * plan.rows_per_unit))
