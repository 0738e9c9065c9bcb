"""Settings of the Train node: when it measures, saves and stops.

It must not say what the settings do to a run: see ``studio.training.schedule``.
"""

from __future__ import annotations

from studio.graph.schema import setting
from studio.nodes._train_optimizer import OptimizerSettings


class MeasuringSettings(OptimizerSettings):
    """Evaluations and checkpoints."""

    eval_steps: int = setting(
        0, "Evaluate every", "Measure the validation loss every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"},
    )  # fmt: skip
    save_steps: int = setting(
        0, "Checkpoint every", "Write a checkpoint to resume from every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"},
    )  # fmt: skip
    keep_checkpoints: int = setting(
        2, "Keep", "How many of the newest checkpoints are kept.", unit="checkpoints", group="Cadence", ge=1,
        le=1000, advanced=True,
    )  # fmt: skip
