"""What happens around each optimizer step: figures out, commands in, checkpoints down.

Why one callback: metric, evaluation, checkpoint and stop must come in a fixed order after a step, or
a resumed run would differ from an uninterrupted one. It must not change weights or random numbers,
except when it puts a checkpoint back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from studio.errors import Stopped, StudioError
from studio.runs.context import StepContext
from studio.training.checkpoint import Checkpoint, commit
from studio.training.memory import read_memory
from studio.training.schedule import Cadence, Length
from studio.training.snapshot import (
    read_figures,
    read_method,
    read_random,
    restore_optimizer,
    trained_is_finite,
    write_snapshot,
)
from studio.training.tuning import Tuning

STOP_SAVE_BUDGET_S = 3.0
SAVE_SHARE = 0.01
"""Largest share of the time that checkpoints of the automatic cadence may cost."""


@dataclass
class Figures:
    """Numbers that a checkpoint carries along."""

    last_loss: float = math.nan
    best_eval_loss: float = math.inf
    last_eval_loss: float = math.nan
    last_eval_step: float = 0
    tokens: float = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, float | str]:
        """The figures as JSON; numbers that JSON lacks become words."""
        return {k: v if math.isfinite(v) else str(v) for k, v in vars(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figures:
        """The exact inverse of ``to_json``."""
        known = {k: float(data[k]) for k in vars(cls()) if k in data}
        return cls(**known)


@dataclass
class StepWatch(TrainerCallback):
    """Follows one training; ``trainer`` and ``evaluate`` are set once they exist."""

    context: StepContext
    length: Length
    cadence: Cadence
    identity: str
    keep: int
    resumed: Checkpoint | None
    tuning: Tuning | None = None
    evaluate: Callable[[], float] | None = None
    trainer: Any = None
    figures: Figures = field(default_factory=Figures)
    random_state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    saved_step: int = -1
    _save_seconds: float = 0.0
    _saved_at: float = 0.0
    _began: float = 0.0
    _step_ended: float = 0.0
    _began_step: int = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Put the checkpoint back, now that optimizer and schedule are in place."""
        del args, control, more
        if self.resumed is not None:
            folder = self.resumed.path
            self.figures = Figures.from_json(read_figures(folder))
            restore_optimizer(folder, _bare(self.trainer.optimizer), self.trainer.lr_scheduler)
            _restore_scaler(self.trainer, read_figures(folder))
            if self.tuning is not None:
                self.tuning.restore(*read_method(folder))
            self.step = self.saved_step = self.resumed.step
        state.global_step, state.max_steps = self.step, self.length.steps
        self.random_state = read_random()
        self._began_step = self.step
        if self.figures.last_eval_step < self.step:
            self._measure()  # the stop came before or within this step's evaluation
        self._began = self._step_ended = time.perf_counter()

    def before_batch(self) -> None:
        """A stop point before each forward pass."""
        if self.context.stop_requested():
            self._stop()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Refuse a loss that is not a number before it reaches the weights."""
        del args, state, control, more
        loss = float(self.trainer.step_loss)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss of step {self.step + 1} is {loss}")
        if self.tuning is not None:
            self.tuning.before_step(self.step + 1)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Let the method see the gradients once more, before they are cleared."""
        del args, state, control, more
        if self.tuning is not None:
            self.tuning.after_step(self.step + 1)

    def _diverged(self, what: str) -> StudioError:
        return StudioError(
            f"{self.context.title}: {what}, not a number.", title="The training diverged",
            hint="Lower the learning rate, raise the warm-up, or train in float32 or bfloat16. "
            "The last checkpoint is from before this step.",
            field="learning_rate", code="loss_not_finite",
        )  # fmt: skip

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """After each optimizer step: tell, measure, save, obey."""
        del args, control, more
        if "grad_norm" not in logs:  # the Trainer's summary at the end
            return
        self.step = int(state.global_step)
        self.random_state = read_random()
        self._tell(float(logs["learning_rate"]), float(logs["grad_norm"]))
        if not math.isfinite(logs["grad_norm"]) and self.trainer.accelerator.scaler is None:
            raise self._diverged(f"the gradient of step {self.step} is {logs['grad_norm']}")
        self._measure()
        self._save_if_due()
        if self.context.stop_requested() and self.step < self.length.steps:
            self._stop()
        self._step_ended = time.perf_counter()

    def _tell(self, learning_rate: float, grad_norm: float) -> None:
        now = time.perf_counter()
        loss, tokens = self.trainer.take_step()
        seconds = now - self._step_ended
        self.figures.last_loss = loss
        self.figures.tokens += tokens
        self.figures.seconds += seconds
        eta = (now - self._began) / (self.step - self._began_step) * (self.length.steps - self.step)
        self.context.emit(
            "Metric", step=self.step, steps=self.length.steps,
            epoch=round(self.length.epoch(self.step), 4), loss=loss, learning_rate=learning_rate,
            grad_norm=grad_norm, tokens_per_s=round(tokens / max(seconds, 1e-9), 2), tokens=tokens,
            eta_s=round(eta, 1), **read_memory(),
        )  # fmt: skip
        self.context.emit(
            "Progress", phase="train", done=self.step, total=self.length.steps, unit="steps",
            eta_s=round(eta, 1),
        )  # fmt: skip

    def _measure(self) -> None:
        if self.evaluate is None or not self.cadence.evaluates(self.step, self.length.steps):
            return
        try:
            loss = self.evaluate()
        except Stopped:
            self._stop()
        self.figures.last_eval_loss, self.figures.last_eval_step = loss, self.step
        self.figures.best_eval_loss = min(loss, self.figures.best_eval_loss)
        self.context.emit(
            "Metric", step=self.step, steps=self.length.steps, eval_loss=loss,
            epoch=round(self.length.epoch(self.step), 4), eval_rows=self.cadence.eval_rows,
        )  # fmt: skip

    def _save_if_due(self) -> None:
        asked = self.context.take_command("save") is not None
        if self.step == self.length.steps:
            self.save("end")
        elif asked:
            self.save("save")
        elif self.cadence.saves(self.step, self.length.steps) and self._affordable():
            self.save("cadence")

    def _affordable(self) -> bool:
        """Whether an automatic checkpoint is worth its time; one that the user set always is."""
        since = time.perf_counter() - self._saved_at
        return not self.cadence.save_auto or self._save_seconds <= SAVE_SHARE * since

    def save(self, reason: str) -> None:
        """Write a checkpoint of the last whole step, unless it is there already."""
        if self.saved_step == self.step:
            return
        if not trained_is_finite(self.trainer.model):
            raise self._diverged(f"a weight of the adapter after step {self.step} is infinite")
        began = time.perf_counter()
        figures = {**self.figures.to_json(), **_scaler_state(self.trainer)}

        def write(folder: Path) -> None:
            write_snapshot(
                folder, self.trainer.model, _bare(self.trainer.optimizer),
                self.trainer.lr_scheduler, self.random_state, figures,
                self.tuning.state() if self.tuning is not None else None,
            )  # fmt: skip

        done = commit(self.context.checkpoints, self.step, self.identity, write, self.keep)
        self.saved_step = self.step
        self._saved_at = time.perf_counter()
        self._save_seconds = self._saved_at - began
        self.context.emit("CheckpointSaved", step=self.step, path=str(done.path), reason=reason)

    def _stop(self) -> None:
        """Keep the last whole step if that is quick, then end."""
        if self.step > 0 and self._save_seconds < STOP_SAVE_BUDGET_S:
            self.save("stop")
        raise Stopped(self.context.node)


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer below accelerate's wrapper."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def _scaler_state(trainer: Any) -> dict[str, Any]:
    scaler = trainer.accelerator.scaler
    return {"scaler": scaler.state_dict()} if scaler is not None else {}


def _restore_scaler(trainer: Any, figures: dict[str, Any]) -> None:
    if "scaler" in figures and trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler.load_state_dict(figures["scaler"])
