"""What happens around each optimizer step: figures out, commands in, checkpoints down.

Why one callback: metric, evaluation, samples, checkpoint and stop must come in a fixed order after a
step, or a resumed run would differ from an uninterrupted one. It must not change weights or random
numbers, except when it puts a checkpoint back.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from safetensors import SafetensorError
from transformers import TrainerCallback

from studio.errors import Stopped, StudioError
from studio.runs.cadence import Cadence, Length
from studio.runs.context import StepContext
from studio.training.adapter.insight import InsightMeter
from studio.training.adapter.tuning import Tuning
from studio.training.loop.ending import TrainingOver, is_complete, is_untrained, why_early
from studio.training.loop.figures import Figures
from studio.training.loop.nonfinite import diverged
from studio.training.loop.saver import (
    Saver,
    bare_optimizer,
    restore_scaler,
    scaler_state,
    scales_down,
)
from studio.training.model.memory import read_memory
from studio.training.saved.checkpoint import Checkpoint
from studio.training.saved.snapshot import (
    read_figures,
    read_method,
    read_random,
    restore_optimizer,
    restore_random,
)

STOP_SAVE_BUDGET_S = 3.0


@dataclass
class StepWatch(TrainerCallback):
    """Follows one training. ``evaluate`` gives the validation loss, ``sample(step, command)`` writes
    samples, ``places(step, micro_batches)`` describes rows; ``trainer`` is set for each pass."""

    context: StepContext
    length: Length
    cadence: Cadence
    identity: str
    settings: Any
    resumed: Checkpoint | None
    tuning: Tuning
    figures: Figures = field(default_factory=Figures)
    evaluate: Callable[[], float] | None = None
    sample: Callable[[int, dict[str, Any] | None], None] | None = None
    places: Callable[[int, Sequence[int]], list[dict[str, Any]]] = lambda step, batches: []
    insight: InsightMeter | None = None
    trainer: Any = None
    random_state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    updating: bool = False
    _begun: bool = False
    _carried: dict[Any, Any] = field(default_factory=dict)
    _scaler: dict[str, Any] = field(default_factory=dict)
    _began: float = 0.0
    _step_ended: float = 0.0
    _began_step: int = 0

    def __post_init__(self) -> None:
        self.step = self.resumed.step if self.resumed is not None else 0
        self.saver = Saver(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Put the checkpoint back, now that optimizer and schedule are in place."""
        del args, control, more
        if self._begun:
            self._go_on()
        else:
            self._begin()
        state.global_step, state.max_steps = self.step, self.length.steps
        self._began_step = self.step
        self._catch_up()
        if self.over:
            self._end()
            raise TrainingOver
        self._began = self._step_ended = time.perf_counter()

    def _begin(self) -> None:
        if self.resumed is not None:
            folder = self.resumed.path
            restore_optimizer(
                folder, bare_optimizer(self.trainer.optimizer), self.trainer.lr_scheduler
            )
            restore_scaler(self.trainer, read_figures(folder))
            self.tuning.restore(*read_method(folder))
        self.random_state = read_random()
        self._begun = True

    def _go_on(self) -> None:
        """A new pass of the same run: the optimizer as it was, random numbers as after the step."""
        bare_optimizer(self.trainer.optimizer).state.update(self._carried)
        restore_scaler(self.trainer, self._scaler)
        restore_random(self.random_state)
        self._carried = {}

    def _catch_up(self) -> None:
        """What is due before the first step, or was when the run was stopped."""
        late = self.step > 0 and not self.complete
        if self.figures.last_eval_step < self.step:
            self._measure()
        self._sample_if_due()
        if late and not self.over:
            self._look_inside()

    @property
    def over(self) -> bool:
        """Whether no step is left to train."""
        return self.step >= self.length.steps or self.ended_early

    @property
    def complete(self) -> bool:
        """Whether everything that is due after the present step was done before the run stopped."""
        return is_complete(self.figures, self.cadence, self.step, self.length.steps)

    def _end(self) -> None:
        """The end of a training whose last step was done before."""
        self._look_inside()
        self.saver.save("end")
        if self.ended_early and self.step < self.length.steps:
            self.tell_early_stop()

    def let_go(self) -> None:
        """Take what the next pass needs off the trainer, so that its memory can be freed."""
        optimizer = bare_optimizer(self.trainer.optimizer)
        self._carried = dict(optimizer.state)
        optimizer.state.clear()  # or accelerate would copy it
        self._scaler = scaler_state(self.trainer)
        self.trainer.model.zero_grad(set_to_none=True)
        self.trainer = None

    def before_batch(self) -> None:
        """A stop point before each forward pass; also where commands are heard."""
        if self.context.stop_requested():
            self._stop()
        self._sample_if_asked()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Refuse a loss or gradient that is not a number before it reaches the weights."""
        del args, state, control, more
        losses = [float(loss) for loss in self.trainer.micro_losses]
        bad = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            raise self._diverged("loss", losses[bad[0]], bad)
        norm = float(self.trainer.grad_norm)
        if not math.isfinite(norm) and not scales_down(self.trainer):
            raise self._diverged("gradient", norm, range(len(losses)))
        self.tuning.before_step(self.step + 1)
        self.updating = True

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Let the method see the gradients once more, before they are cleared; zeros where float16's
        scaling left the step out, because they were no numbers."""
        del args, state, control, more
        if not math.isfinite(float(self.trainer.grad_norm)):
            self.trainer.model.zero_grad(set_to_none=False)
        self.tuning.after_step(self.step + 1)
        self.updating = False

    def _diverged(self, what: str, value: float, batches: Sequence[int]) -> StudioError:
        """Keep the last step, whose weights are finite, and say what went wrong."""
        if self.step > 0:
            with contextlib.suppress(OSError, SafetensorError):
                self.saver.save("finite")
        kept = self.saver.step if self.saver.step > 0 else None
        return diverged(
            self.context, self.step + 1, what, value, self.places(self.step, batches), kept
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """After each optimizer step: tell, measure, save, obey."""
        del args, more
        if "grad_norm" not in logs:  # the Trainer's summary at the end
            return
        self.step = int(state.global_step)
        self.random_state = read_random()
        self._tell(float(logs["learning_rate"]), float(logs["grad_norm"]))
        self._measure()
        self._sample_if_due()
        self._look_inside()
        ending = self.ended_early and self.step < self.length.steps
        self._save_if_due(ending)
        if ending:
            self.tell_early_stop()
            control.should_training_stop = True
        elif self.context.stop_requested() and self.step < self.length.steps:
            self._stop()
        self._step_ended = time.perf_counter()

    @property
    def ended_early(self) -> bool:
        """Whether the validation loss has not fallen for as long as the user waits."""
        patience = self.settings.early_stopping
        return bool(patience) and self.figures.waited >= patience

    def tell_early_stop(self) -> None:
        """Say why the training ends before its last step."""
        best = int(self.figures.best_eval_step)
        self.context.emit(
            "EarlyStopped",
            step=self.step,
            steps=self.length.steps,
            reason=why_early(self.figures),
            best_step=best if best >= 0 else None,
            best_eval_loss=self.figures.best_eval_loss,
        )

    def _tell(self, learning_rate: float, grad_norm: float) -> None:
        now = time.perf_counter()
        loss, tokens = self.trainer.take_step()
        seconds = now - self._step_ended
        self.figures.last_loss = loss
        self.figures.tokens += tokens
        self.figures.seconds += seconds
        eta = (now - self._began) / (self.step - self._began_step) * (self.length.steps - self.step)
        self.context.emit(
            "Metric",
            step=self.step,
            steps=self.length.steps,
            epoch=round(self.length.epoch(self.step), 4),
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens_per_s=round(tokens / max(seconds, 1e-9), 2),
            tokens=tokens,
            eta_s=round(eta, 1),
            **read_memory(),
        )
        self.context.emit(
            "Progress",
            phase="train",
            done=self.step,
            total=self.length.steps,
            unit="steps",
            eta_s=round(eta, 1),
        )

    def _measure(self) -> None:
        if self.evaluate is None or not self.cadence.evaluates(self.step, self.length.steps):
            return
        try:
            loss = self.evaluate()
        except Stopped:
            self._stop()
        if not math.isfinite(loss):
            self.context.notice(
                f"The validation loss after step {self.step} is {loss}, not a number: this evaluation "
                "counts as no better.",
                "Look for very long or damaged validation rows.",
            )
        untrained = is_untrained(self.settings, self.step, self.length.steps)
        best = self.figures.take_evaluation(self.step, loss, self.settings.min_delta, untrained)
        self.context.emit(
            "Metric",
            step=self.step,
            steps=self.length.steps,
            eval_loss=loss,
            epoch=round(self.length.epoch(self.step), 4),
            eval_rows=self.cadence.eval_rows,
        )
        if best and self.settings.keep == "best":
            self.saver.save_best()

    def _sample_if_due(self) -> None:
        due = self.figures.sampled_step < self.step
        if due and self.cadence.samples(self.step, self.length.steps):
            self._sample(None)
            self.figures.sampled_step = self.step
        self._sample_if_asked()

    def _look_inside(self) -> None:
        """How far the layers have moved: with each evaluation (without any, at the times of
        checkpoints), and at the end."""
        steps = self.length.steps
        measured = self.cadence.eval_every > 0
        due = self.cadence.evaluates if measured else self.cadence.saves
        ends = self.step == steps or self.ended_early
        if self.insight is not None and (ends or due(self.step, steps)):
            found = self.insight.measure(self.step)
            if found.modules:
                self.context.emit("Insight", **found.to_json())

    def _sample_if_asked(self) -> None:
        command = self.context.take_command("sample")
        if command is not None:
            self._sample(command)

    def _sample(self, command: dict[str, Any] | None) -> None:
        if self.sample is None:
            return
        try:
            self.sample(self.step, command)
        except Stopped:
            self._stop()

    def _save_if_due(self, ending: bool) -> None:
        asked = self.context.take_command("save") is not None
        if ending or self.step == self.length.steps:
            self.saver.save("end")
        elif asked:
            self.saver.save("save")
        elif self.cadence.saves(self.step, self.length.steps) and self.saver.affordable():
            self.saver.save("cadence")

    def _stop(self) -> None:
        """Keep the last whole step if that is quick, then end."""
        if self.step > 0 and self.saver.seconds < STOP_SAVE_BUDGET_S:
            self.saver.save("stop")
        raise Stopped(self.context.node)
