"""Optimizer and learning-rate schedule of a training.

Why not the Trainer's own: they are needed before it runs, so that a checkpoint can be put back into
them. It must not touch frozen weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

BETAS, EPSILON = (0.9, 0.999), 1e-8


def parameter_groups(
    model: Any, settings: Any, rate: Callable[[str], float] = lambda name: 1.0
) -> list[dict[str, Any]]:
    """The trainable weights by learning rate and decay; vectors are never decayed.

    ``rate(name)`` is what the learning rate of a weight is multiplied with.
    """
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for name, parameter in sorted(trained, key=lambda item: item[1].dim() < 2):
        groups.setdefault((rate(name), parameter.dim() >= 2), []).append(parameter)
    return [
        {"params": found, "weight_decay": settings.weight_decay if matrices else 0.0,
         "lr": settings.learning_rate * factor}
        for (factor, matrices), found in groups.items()
    ]  # fmt: skip


def build_optimizer(
    model: Any, settings: Any, rate: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The chosen optimizer over the trainable weights."""
    groups = parameter_groups(model, settings, rate)
    rate_of_all = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate_of_all)
    if settings.optimizer == "adamw_8bit":
        import bitsandbytes as bnb

        return bnb.optim.AdamW8bit(groups, lr=rate_of_all, betas=BETAS, eps=EPSILON)
    # Not the fused kernel: it is 1 % faster and rounds otherwise, so that bfloat16 losses leave
    # those of plain PEFT within a few steps. Like this they are equal to the last bit.
    return torch.optim.AdamW(groups, lr=rate_of_all, betas=BETAS, eps=EPSILON)


def build_schedule(optimizer: torch.optim.Optimizer, settings: Any, steps: int) -> Any:
    """The learning rate over ``steps`` optimizer steps, with warm-up."""
    from transformers import get_scheduler

    # The first step of a warm-up has rate 0: a run of a single step would learn nothing.
    warmup = math.ceil(settings.warmup_ratio * steps) if steps > 1 else 0
    name = settings.lr_scheduler
    if name == "constant" and warmup:
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
