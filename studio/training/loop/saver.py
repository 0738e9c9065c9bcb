"""Writes the checkpoints of one training, and the weights of its best evaluation.

The best weights are kept beside the checkpoints and outside their rotation, without the optimizer,
whose state is several times their size and is not needed. At most two are kept, the best so far and
the one named by the newest checkpoint, so that a run killed at any moment finds it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from studio.graph.context import StepContext
from studio.system.busy_files import is_busy
from studio.training.adapter.tuning import Tuning
from studio.training.loop.nonfinite import diverged
from studio.training.loop.state import TrainingState
from studio.training.saved.checkpoint import Checkpoint, commit, drop_others, of_step
from studio.training.saved.snapshot import (
    load_adapter,
    read_method,
    trained_is_finite,
    write_snapshot,
    write_weights,
)

if TYPE_CHECKING:
    from studio.node_settings.train import TrainSettings

SAVE_SHARE = 0.01
"""The largest share of the training time for automatic checkpoints."""

BEST = "best"
"""The folder of the best weights, beside the checkpoints."""


class Saver:
    """Saves ``state``. ``step`` is the step of the last checkpoint, ``seconds`` the time it took."""

    def __init__(
        self,
        context: StepContext,
        settings: TrainSettings,
        state: TrainingState,
        identity: str,
        resumed: Checkpoint | None = None,
    ) -> None:
        self.context, self.settings, self.state = context, settings, state
        self.identity = identity
        self.folder = context.checkpoints
        self.step = resumed.step if resumed is not None else -1
        self.seconds = 0.0
        self._known_best = int(state.metrics.best_eval_step)
        self._saved_at = 0.0
        self._left_reported = False

    @property
    def newest_step(self) -> int | None:
        """The step of the last checkpoint, if there is one after a step."""
        return self.step if self.step > 0 else None

    def affordable(self) -> bool:
        """Whether an automatic checkpoint is worth the time it takes."""
        since = time.perf_counter() - self._saved_at
        return self.seconds <= SAVE_SHARE * since

    def save(self, reason: str) -> None:
        """Write a checkpoint of the last completed step, unless there is one already."""
        state = self.state
        if self.step == state.step:
            return
        if not trained_is_finite(state.tuning.model):
            raise diverged(self.context, state.step, "weights", math.inf, [], self.newest_step)
        began = time.perf_counter()
        keep = self.settings.keep_checkpoints
        try:
            done = commit(self.folder, state.step, self.identity, self._write, keep)
        except Exception as error:
            self._report_busy(error, f"The checkpoint of step {state.step}")
            self._saved_at = time.perf_counter()
            return
        best = int(state.metrics.best_eval_step)
        if self.settings.keep == "best":
            drop_others(self.folder / BEST, (best,))
        self._known_best = best
        self._report_left(done)
        self.step = state.step
        self._saved_at = time.perf_counter()
        self.seconds = self._saved_at - began
        self.context.emit("CheckpointSaved", step=self.step, path=str(done.path), reason=reason)

    def _report_busy(self, error: Exception, what: str) -> None:
        """A notice instead of an error of a file in use: the steps since the last checkpoint are worth more than a
        new one. Other errors are raised."""
        if not is_busy(error):
            raise error
        last = self.newest_step
        self.context.notice(
            f"{what} could not be written, because another program uses a file: {error}. "
            + (
                "There is no checkpoint yet."
                if last is None
                else f"The last checkpoint is that of step {last}."
            ),
            f"Exclude {self.folder} from virus scanners and cloud folders.",
        )

    def _report_left(self, done: Checkpoint) -> None:
        if done.left and not self._left_reported:
            self._left_reported = True
            self.context.notice(
                f"An old checkpoint could not be removed, because another program uses it: {done.left[0]}. The "
                "training continues.",
                "It is removed with the next checkpoint, when it is no longer in use.",
            )

    def _write(self, folder: Path) -> None:
        state = self.state
        write_snapshot(
            folder,
            state.tuning.model,
            state.optimizer,
            state.scheduler,
            state.random_state,
            {**state.metrics.to_json(), **state.scaler_state()},
            state.tuning.state(),
        )

    def save_best(self) -> None:
        """Write the weights of the best evaluation so far."""
        state = self.state

        def write(folder: Path) -> None:
            write_weights(folder, state.tuning.model, state.tuning.state())

        try:
            done = commit(self.folder / BEST, state.step, self.identity, write, keep=None)
        except Exception as error:
            self._report_busy(error, f"The weights of step {state.step}, the best so far,")
            return
        drop_others(self.folder / BEST, (state.step, self._known_best))
        self.context.emit(
            "CheckpointSaved",
            step=state.step,
            path=str(done.path),
            reason="best",
            eval_loss=state.metrics.best_eval_loss,
        )

    def choose_weights(self) -> None:
        """Load the weights of the best evaluation into the model at the end, if the settings say so."""
        state, metrics = self.state, self.state.metrics
        best, metrics.kept_step = int(metrics.best_eval_step), state.step
        if self.settings.keep == "best" and metrics.untrained_loss < metrics.best_eval_loss:
            self.context.notice(
                f"The validation loss was lowest before training: {metrics.untrained_loss:.4g}. The "
                "result has the best weights since then.",
                "Lower the learning rate, and check that the validation rows resemble the training "
                "rows.",
            )
        if self.settings.keep != "best" or best in (-1, state.step):
            return
        if not load_best(self.folder, best, self.identity, state.tuning):
            self.context.notice(
                f"The weights of step {best}, the best evaluation, are missing: the result has those of step "
                f"{state.step}.",
            )
            return
        metrics.kept_step = best
        self.context.notice(
            f"The result has the weights of step {best}, which had the lowest validation loss: "
            f"{metrics.best_eval_loss:.4g}.",
            level="info",
        )


def load_best(checkpoints: Path, step: int, identity: str, tuning: Tuning) -> bool:
    """Load the best weights, those of ``step``; False when they are missing."""
    found = of_step(checkpoints / BEST, step, identity)
    if found is None:
        return False
    load_adapter(found.path, tuning.model)
    tuning.restore(*read_method(found.path))
    return True
