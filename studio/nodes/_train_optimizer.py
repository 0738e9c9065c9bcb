"""Settings of the Train node: optimizer and learning rate over time.

It must not say what the settings do to a run: see ``studio.training.loop.optim`` and ``studio.rates``.
"""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import setting
from studio.nodes._train_loss import LossSettings

OptimizerName = Literal[
    "adamw", "adamw_fused", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "lion",
    "lion_8bit", "ademamix", "ademamix_8bit", "muon", "sgd",
]  # fmt: skip
ScheduleName = Literal[
    "linear", "cosine", "constant", "cosine_with_min_lr", "cosine_with_restarts", "wsd",
    "inverse_sqrt", "polynomial",
]  # fmt: skip

_ADAMS = ["adamw", "adamw_fused", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
_MIXES = ["ademamix", "ademamix_8bit"]
_WITH_BETAS = [*_ADAMS, *_MIXES, "lion", "lion_8bit", "muon"]


class OptimizerSettings(LossSettings):
    """How the weights are moved, and how strongly at which step."""

    learning_rate: float = setting(
        2e-4, "Learning rate", "Size of each step. 1e-4 to 5e-4 is usual for LoRA. Too high: the loss jumps; "
        "too low: it hardly moves.", group="Optimizer", gt=0.0, le=1.0, log_scale=True,
    )  # fmt: skip
    lr_scheduler: ScheduleName = setting(
        "cosine", "Schedule", "How the learning rate falls over the run. Cosine suits nearly always.",
        group="Optimizer",
        choice_labels={
            "linear": "Linear", "cosine": "Cosine", "constant": "Constant",
            "cosine_with_min_lr": "Cosine to a lowest rate", "cosine_with_restarts": "Cosine with restarts",
            "wsd": "Warm-up, stable, decay", "inverse_sqrt": "Inverse square root",
            "polynomial": "Polynomial",
        },
    )  # fmt: skip
    warmup_ratio: float = setting(
        0.03, "Warm-up", "Share of the steps in which the learning rate rises from 0.", group="Optimizer",
        ge=0.0, le=1.0, step=0.01, shown_if={"warmup_steps": 0},
    )  # fmt: skip
    warmup_steps: int = setting(
        0, "Warm-up steps", "Number of steps in which the learning rate rises from 0. 0: by the share above.",
        unit="steps", group="Optimizer", ge=0, special={0: "by share"}, advanced=True,
    )  # fmt: skip
    min_lr_ratio: float = setting(
        0.1, "Lowest rate", "Where the schedule ends, as a share of the learning rate. 0 to 0.1 is usual.",
        group="Optimizer", ge=0.0, le=1.0, step=0.01, advanced=True,
        shown_if={"lr_scheduler": ["cosine_with_min_lr", "wsd", "polynomial"]},
    )  # fmt: skip
    lr_cycles: int = setting(
        3, "Cycles", "How often the learning rate falls to 0 and starts again.", group="Optimizer", ge=1,
        le=1000, advanced=True, shown_if={"lr_scheduler": "cosine_with_restarts"},
    )  # fmt: skip
    decay_ratio: float = setting(
        0.2, "Decay", "Share of the steps, at the end, in which the learning rate falls. 0.1 to 0.2 is usual.",
        group="Optimizer", ge=0.0, le=1.0, step=0.05, advanced=True, shown_if={"lr_scheduler": "wsd"},
    )  # fmt: skip
    lr_power: float = setting(
        1.0, "Power", "Shape of the polynomial: 1 is a straight line, 2 falls faster at first.",
        group="Optimizer", gt=0.0, le=10.0, step=0.5, advanced=True, shown_if={"lr_scheduler": "polynomial"},
    )  # fmt: skip
    optimizer: OptimizerName = setting(
        "adamw", "Optimizer", "AdamW suits nearly always. The 8-bit ones keep 2 instead of 8 bytes for each "
        "trained weight; the paged ones move them to main memory when the GPU is full; Adafactor and SGD keep "
        "next to nothing. Lion wants a third to a tenth of AdamW's learning rate, SGD a hundred times more.",
        group="Optimizer", advanced=True,
        choice_labels={
            "adamw": "AdamW", "adamw_fused": "AdamW, fused on the GPU", "adamw_8bit": "AdamW 8-bit",
            "paged_adamw": "AdamW, paged", "paged_adamw_8bit": "AdamW 8-bit, paged",
            "adafactor": "Adafactor", "lion": "Lion", "lion_8bit": "Lion 8-bit", "ademamix": "AdEMAMix",
            "ademamix_8bit": "AdEMAMix 8-bit", "muon": "Muon", "sgd": "SGD",
        },
    )  # fmt: skip
    beta1: float = setting(
        0.9, "Beta 1", "How much of the earlier gradients each step keeps. 0.9 is usual.", group="Optimizer",
        ge=0.0, lt=1.0, step=0.01, advanced=True, shown_if={"optimizer": _WITH_BETAS},
    )  # fmt: skip
    beta2: float = setting(
        0.0, "Beta 2", "How slowly the size of the gradients is followed. 0: the optimizer's own, which is "
        "0.999, and 0.99 for Lion.", group="Optimizer", ge=0.0, lt=1.0, step=0.001, advanced=True,
        special={0.0: "its own"}, shown_if={"optimizer": _WITH_BETAS},
    )  # fmt: skip
    beta3: float = setting(
        0.9999, "Beta 3", "How much AdEMAMix's slow memory keeps. Lower it for runs of less than 10,000 steps.",
        group="Optimizer", ge=0.0, lt=1.0, step=0.0001, advanced=True, shown_if={"optimizer": _MIXES},
    )  # fmt: skip
    ademamix_alpha: float = setting(
        5.0, "Slow share", "How strongly AdEMAMix's slow memory counts. 5 to 8 is usual.", group="Optimizer",
        ge=0.0, le=100.0, step=1.0, advanced=True, shown_if={"optimizer": _MIXES},
    )  # fmt: skip
    epsilon: float = setting(
        1e-8, "Epsilon", "Keeps the division by small gradients in bounds. Raise it to 1e-6 if the loss jumps.",
        group="Optimizer", gt=0.0, le=1.0, log_scale=True, advanced=True,
        shown_if={"optimizer": [*_ADAMS, *_MIXES, "muon"]},
    )  # fmt: skip
    momentum: float = setting(
        0.0, "Momentum", "How much of the step before SGD keeps. 0.9 is usual and needs 4 bytes more for each "
        "trained weight.", group="Optimizer", ge=0.0, lt=1.0, step=0.05, advanced=True,
        shown_if={"optimizer": "sgd"},
    )  # fmt: skip
    muon_momentum: float = setting(
        0.95, "Muon momentum", "How much of the steps before Muon keeps. 0.95 is usual.", group="Optimizer",
        ge=0.0, lt=1.0, step=0.01, advanced=True, shown_if={"optimizer": "muon"},
    )  # fmt: skip
    weight_decay: float = setting(
        0.0, "Weight decay", "Pulls the adapter towards zero. 0 to 0.1.", group="Optimizer", ge=0.0, le=1.0,
        step=0.01, advanced=True,
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longer gradients are cut to this norm. 0 switches it off.",
        group="Optimizer", ge=0.0, le=1000.0, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
