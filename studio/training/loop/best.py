"""The weights of the best evaluation, kept beside the checkpoints and outside their rotation.

Why not a whole checkpoint: only the weights are wanted again, and an optimizer's state is several times
their size. Two are there at most: the best so far, and the one that the newest checkpoint speaks of, so
that a run killed at any moment finds it.
"""

from __future__ import annotations

from pathlib import Path

from studio.training.adapter.tuning import Tuning
from studio.training.saved.checkpoint import Checkpoint, commit, drop_others, of_step
from studio.training.saved.snapshot import load_adapter, read_method, write_weights

FOLDER = "best"


def keep_best(checkpoints: Path, step: int, identity: str, tuning: Tuning) -> Checkpoint:
    """Write the trained weights as those of ``step``."""

    def write(folder: Path) -> None:
        write_weights(folder, tuning.model, tuning.state())

    return commit(checkpoints / FOLDER, step, identity, write, keep=None)


def forget_others(checkpoints: Path, *steps: int) -> None:
    """Drop all but the best weights of ``steps``."""
    drop_others(checkpoints / FOLDER, steps)


def load_best(checkpoints: Path, step: int, identity: str, tuning: Tuning) -> bool:
    """Put the best weights of ``step`` back; False when they are not there any more."""
    found = of_step(checkpoints / FOLDER, step, identity)
    if found is None:
        return False
    load_adapter(found.path, tuning.model)
    tuning.restore(*read_method(found.path))
    return True
