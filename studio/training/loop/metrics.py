"""The metrics stored in a checkpoint, with which a resumed training continues.

The field names are the keys in ``state.json`` of every checkpoint: renaming one breaks resuming
older runs. Values that follow from the settings are not stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class Metrics:
    """Losses, the best evaluation and the history of a training. A step is -1 while there is none.

    ``waited`` counts the evaluations since the validation loss last improved on ``awaited_loss`` by
    at least the minimum change. ``untrained_loss`` is the loss before the first update that changed
    the weights; it never counts as the best. ``finish_step`` is the step after which the user asked
    to finish. ``micro_batch`` is 0 while the configured batch size fits into memory;
    ``checkpointing`` is 1 if gradient checkpointing was turned on because memory ran out;
    ``recoveries`` counts both changes, ``skipped_steps`` those that float16's loss scaling skipped.
    """

    last_loss: float = math.nan
    best_eval_loss: float = math.inf
    best_eval_step: float = -1
    last_eval_loss: float = math.nan
    last_eval_step: float = -1
    awaited_loss: float = math.inf
    untrained_loss: float = math.inf
    waited: float = 0
    kept_step: float = -1
    sampled_step: float = -1
    finish_step: float = -1
    micro_batch: float = 0
    checkpointing: float = 0
    recoveries: float = 0
    skipped_steps: float = 0
    tokens: float = 0
    seconds: float = 0.0

    def record_evaluation(
        self, step: int, loss: float, min_delta: float, untrained: bool = False
    ) -> bool:
        """Record a validation loss. Returns whether it is the best so far; NaN never is."""
        self.last_eval_loss, self.last_eval_step = loss, step
        if loss < self.awaited_loss - min_delta:
            self.awaited_loss, self.waited = loss, 0
        else:
            self.waited += 1
        if untrained:
            self.untrained_loss = min(loss, self.untrained_loss)
        if untrained or not loss < self.best_eval_loss:
            return False
        self.best_eval_loss, self.best_eval_step = loss, step
        return True

    def early_stop_reason(self) -> str:
        """Why early stopping ends the training, as a sentence."""
        if self.finish_step >= 0:
            return "The training was finished on request."
        waited, best = int(self.waited), int(self.best_eval_step)
        times = "evaluation" if waited == 1 else f"{waited} evaluations"
        reason = f"The validation loss has not fallen in the last {times}"
        if self.untrained_loss < self.best_eval_loss:
            reason += f"; it was lowest before training: {self.untrained_loss:.4g}"
        elif best >= 0:
            reason += f"; it was lowest after step {best}: {self.best_eval_loss:.4g}"
        return reason + "."

    def to_json(self) -> dict[str, float | str]:
        """The metrics as JSON; NaN and infinities become strings."""
        return {k: v if math.isfinite(v) else str(v) for k, v in vars(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Metrics:
        """The inverse of ``to_json``."""
        known = {k: float(data[k]) for k in vars(cls()) if k in data}
        return cls(**known)

    @classmethod
    def problem(cls, data: dict[str, Any]) -> str:
        """Why stored metrics cannot be used; empty if they can."""
        try:
            found = cls.from_json(data)
        except (TypeError, ValueError, OverflowError):
            return "its metrics are not numbers"
        wrong = [k for k, v in vars(found).items() if k in _FINITE and not math.isfinite(v)]
        return f"its metric {wrong[0]} is {getattr(found, wrong[0])}" if wrong else ""


_FINITE = {name for name, value in vars(Metrics()).items() if math.isfinite(value)}
"""The counters and steps; losses may be NaN or infinite."""
