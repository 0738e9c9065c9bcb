"""Settings of the Train node: optimizer and learning rate over time.

It must not say what the settings do to a run: see ``studio.training.optim``.
"""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import setting
from studio.nodes._train_data import DataSettings


class OptimizerSettings(DataSettings):
    """How the weights are moved, and how strongly at which step."""

    learning_rate: float = setting(
        2e-4, "Learning rate", "Size of each step. 1e-4 to 5e-4 is usual for LoRA. Too high: the loss jumps; "
        "too low: it hardly moves.", group="Optimizer", gt=0.0, le=1.0, log_scale=True,
    )  # fmt: skip
    lr_scheduler: Literal["linear", "cosine", "constant"] = setting(
        "cosine", "Schedule", "How the learning rate falls over the run.", group="Optimizer",
        choice_labels={"linear": "Linear", "cosine": "Cosine", "constant": "Constant"},
    )  # fmt: skip
    warmup_ratio: float = setting(
        0.03, "Warm-up", "Share of the steps in which the learning rate rises from 0.", group="Optimizer",
        ge=0.0, le=1.0, step=0.01,
    )  # fmt: skip
    optimizer: Literal["adamw", "adamw_8bit", "sgd"] = setting(
        "adamw", "Optimizer", "AdamW suits nearly always; the 8-bit one needs less memory.", group="Optimizer",
        advanced=True, choice_labels={"adamw": "AdamW", "adamw_8bit": "AdamW 8-bit", "sgd": "SGD"},
    )  # fmt: skip
    weight_decay: float = setting(
        0.0, "Weight decay", "Pulls the adapter towards zero. 0 to 0.1.", group="Optimizer", ge=0.0, le=1.0,
        step=0.01, advanced=True,
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longer gradients are cut to this norm. 0 switches it off.",
        group="Optimizer", ge=0.0, le=1000.0, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
