"""Writes the checkpoints of one training, and the weights of its best evaluation.

Why apart from the watch: what is written, how often it is worth it and what is taken at the end belong
together. It must not write a weight that is no number.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from studio.training.loop.best import forget_others, keep_best, load_best
from studio.training.loop.nonfinite import diverged
from studio.training.saved.checkpoint import commit
from studio.training.saved.snapshot import trained_is_finite, write_snapshot

if TYPE_CHECKING:
    from studio.training.loop.watch import StepWatch

SAVE_SHARE = 0.01
"""Largest share of the time that checkpoints of the automatic cadence may cost."""


class Saver:
    """Saves what ``watch`` follows. ``step`` is that of the last checkpoint, ``seconds`` its time."""

    def __init__(self, watch: StepWatch) -> None:
        self.watch = watch
        self.folder = watch.context.checkpoints
        self.step = watch.resumed.step if watch.resumed is not None else -1
        self.seconds = 0.0
        self._known_best = int(watch.figures.best_eval_step)
        self._saved_at = 0.0

    def affordable(self) -> bool:
        """Whether an automatic checkpoint is worth its time; one that the user set always is."""
        since = time.perf_counter() - self._saved_at
        return not self.watch.cadence.save_auto or self.seconds <= SAVE_SHARE * since

    def save(self, reason: str) -> None:
        """Write a checkpoint of the last whole step, unless it is there already."""
        watch = self.watch
        if self.step == watch.step:
            return
        if not trained_is_finite(watch.tuning.model):
            kept = self.step if self.step > 0 else None
            raise diverged(watch.context, watch.step, "weights", math.inf, [], kept)
        began = time.perf_counter()
        keep = watch.settings.keep_checkpoints
        done = commit(self.folder, watch.step, watch.identity, self._write, keep)
        if watch.settings.keep == "best":
            forget_others(self.folder, int(watch.figures.best_eval_step))
        self._known_best = int(watch.figures.best_eval_step)
        self.step = watch.step
        self._saved_at = time.perf_counter()
        self.seconds = self._saved_at - began
        watch.context.emit("CheckpointSaved", step=self.step, path=str(done.path), reason=reason)

    def _write(self, folder: Path) -> None:
        watch, trainer = self.watch, self.watch.trainer
        figures = {**watch.figures.to_json(), **scaler_state(trainer)}
        write_snapshot(
            folder,
            watch.tuning.model,
            bare_optimizer(trainer.optimizer),
            trainer.lr_scheduler,
            watch.random_state,
            figures,
            watch.tuning.state(),
        )

    def save_best(self) -> None:
        """Write the weights of the best evaluation so far."""
        watch = self.watch
        done = keep_best(self.folder, watch.step, watch.identity, watch.tuning)
        forget_others(self.folder, watch.step, self._known_best)
        watch.context.emit(
            "CheckpointSaved",
            step=watch.step,
            path=str(done.path),
            reason="best",
            eval_loss=watch.figures.best_eval_loss,
        )

    def choose_weights(self) -> None:
        """At the end: put the best evaluation's weights into the model, when they are wanted."""
        watch, figures = self.watch, self.watch.figures
        best, figures.kept_step = int(figures.best_eval_step), watch.step
        if watch.settings.keep == "best" and figures.untrained_loss < figures.best_eval_loss:
            watch.context.notice(
                f"The validation loss was lowest before the training: {figures.untrained_loss:.4g}. "
                "The result is the best of what was trained.",
                "Lower the learning rate, and check that the validation rows are like the others.",
            )
        if watch.settings.keep != "best" or best in (-1, watch.step):
            return
        if not load_best(self.folder, best, watch.identity, watch.tuning):
            watch.context.notice(
                f"The weights of step {best}, the best evaluation, are not there any more: the "
                f"result has those of step {watch.step}.",
            )
            return
        figures.kept_step = best
        watch.context.notice(
            f"The result has the weights of step {best}, whose validation loss was the lowest: "
            f"{figures.best_eval_loss:.4g}.",
            level="info",
        )


def bare_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer below accelerate's wrapper."""
    inner = getattr(optimizer, "optimizer", None)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer


def scaler_state(trainer: Any) -> dict[str, Any]:
    """What float16's loss scaling has learned, where there is any."""
    scaler = trainer.accelerator.scaler
    return {"scaler": scaler.state_dict()} if scaler is not None else {}


def restore_scaler(trainer: Any, figures: dict[str, Any]) -> None:
    """Put back what ``scaler_state`` gave."""
    if "scaler" in figures and trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler.load_state_dict(figures["scaler"])


def scales_down(trainer: Any) -> bool:
    """Whether float16's loss scaling can still help a gradient that is no number: it leaves the step out
    and halves its factor. With a factor of 1 the gradient itself is too large, and every later step
    would be left out too."""
    scaler = trainer.accelerator.scaler
    return scaler is not None and scaler.get_scale() > 1.0
