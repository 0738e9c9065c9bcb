"""Settings of the Train node: when it measures, saves and stops, and what it writes while it trains.

It must not say what the settings do to a run: see ``studio.cadence`` and ``samples``.
"""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import setting
from studio.nodes._train_optimizer import OptimizerSettings


class MeasuringSettings(OptimizerSettings):
    """Evaluations, checkpoints, early stopping and samples."""

    eval_by: Literal["steps", "epoch", "run"] = setting(
        "steps", "Evaluate by", "Whether evaluations go by a number of steps, or by a share of an epoch or of "
        "the run.", group="Cadence", advanced=True,
        choice_labels={"steps": "Steps", "epoch": "Share of an epoch", "run": "Share of the run"},
    )  # fmt: skip
    eval_steps: int = setting(
        0, "Evaluate every", "Measure the validation loss every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"}, shown_if={"eval_by": "steps"},
    )  # fmt: skip
    eval_share: float = setting(
        0.25, "Evaluate each", "Measure the validation loss after each such share: 0.25 of an epoch is four "
        "times an epoch.", group="Cadence", gt=0.0, le=1.0, step=0.05, advanced=True,
        shown_if={"eval_by": ["epoch", "run"]},
    )  # fmt: skip
    eval_at_start: bool = setting(
        False, "Evaluate at the start", "Also measure before the first step: shows what the base model can do.",
        group="Cadence", advanced=True,
    )  # fmt: skip
    save_steps: int = setting(
        0, "Checkpoint every", "Write a checkpoint to resume from every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"},
    )  # fmt: skip
    keep_checkpoints: int = setting(
        2, "Checkpoints kept", "How many of the newest checkpoints are kept.", unit="checkpoints",
        group="Cadence", ge=1, le=1000, advanced=True,
    )  # fmt: skip
    keep: Literal["last", "best"] = setting(
        "last", "Result", "Which weights are the result: those of the last step, or those of the "
        "evaluation with the lowest validation loss.", group="Stopping",
        choice_labels={"last": "Last step", "best": "Best evaluation"},
    )  # fmt: skip
    early_stopping: int = setting(
        0, "Early stopping", "End when the validation loss has not fallen for so many evaluations. 3 is usual; "
        "0 trains to the end.", unit="evaluations", group="Stopping", ge=0, le=1000, special={0: "off"},
    )  # fmt: skip
    min_delta: float = setting(
        0.0, "Least change", "A validation loss counts as fallen only when it fell by more than this.",
        group="Stopping", ge=0.0, le=10.0, step=0.001, advanced=True,
    )  # fmt: skip
    sample_prompts: str = setting(
        "", "Prompts", "What the model is asked at the start, at every evaluation and at the end: one question "
        "a line. The answers show what it learns; they cost time, not quality.", group="Samples",
        widget="multiline", max_length=20_000,
    )  # fmt: skip
    sample_rows: int = setting(
        0, "Rows of validation", "Also ask the questions of so many validation rows.", unit="rows",
        group="Samples", ge=0, le=64, special={0: "none"}, advanced=True,
    )  # fmt: skip
    sample_max_tokens: int = setting(
        64, "Longest answer", "Answers are cut after this many tokens.", unit="tokens", group="Samples", ge=1,
        le=4096, advanced=True,
    )  # fmt: skip
    sample_temperature: float = setting(
        0.0, "Temperature", "0 takes the likeliest token each time. Higher draws: 0.7 is usual; the same seed "
        "draws the same.", group="Samples", ge=0.0, le=2.0, step=0.1, special={0.0: "likeliest"},
        advanced=True,
    )  # fmt: skip
