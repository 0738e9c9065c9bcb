"""Numbers of a training that a checkpoint carries along, so that a resumed run knows them.

It must hold nothing that can be computed from the settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class Figures:
    """Losses, the best evaluation, and what happened on the way. Steps are -1 while there is none.

    ``waited`` counts evaluations since the validation loss last fell by the least change asked for,
    from ``awaited_loss``. ``untrained_loss`` was measured before anything had been learned; it is never the
    best. ``micro_batch`` is 0 as long as it is the one that was set; ``recoveries``
    counts how often it was halved.
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
    micro_batch: float = 0
    recoveries: float = 0
    tokens: float = 0
    seconds: float = 0.0

    def take_evaluation(
        self, step: int, loss: float, least_change: float, untrained: bool = False
    ) -> bool:
        """Note an evaluation; whether it is the best so far. A loss that is not a number never is."""
        self.last_eval_loss, self.last_eval_step = loss, step
        if loss < self.awaited_loss - least_change:
            self.awaited_loss, self.waited = loss, 0
        else:
            self.waited += 1
        if untrained:
            self.untrained_loss = min(loss, self.untrained_loss)
        if untrained or not loss < self.best_eval_loss:
            return False
        self.best_eval_loss, self.best_eval_step = loss, step
        return True

    def to_json(self) -> dict[str, float | str]:
        """The figures as JSON; numbers that JSON lacks become words."""
        return {k: v if math.isfinite(v) else str(v) for k, v in vars(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figures:
        """The exact inverse of ``to_json``."""
        known = {k: float(data[k]) for k in vars(cls()) if k in data}
        return cls(**known)
