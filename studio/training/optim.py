"""Optimizer and learning-rate schedule of a training.

Why not the Trainer's own: they are needed before it runs, so that a checkpoint can be put back into
them. It must not touch frozen weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch

BETAS, EPSILON = (0.9, 0.999), 1e-8


def build_optimizer(model: Any, settings: Any) -> torch.optim.Optimizer:
    """The chosen optimizer over the trainable weights; vectors are never decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    rate = settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate)
    if settings.optimizer == "adamw_8bit":
        import bitsandbytes as bnb

        return bnb.optim.AdamW8bit(groups, lr=rate, betas=BETAS, eps=EPSILON)
    # Not the fused kernel: it is 1 % faster and rounds otherwise, so that bfloat16 losses leave
    # those of plain PEFT within a few steps. Like this they are equal to the last bit.
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, eps=EPSILON)


def build_schedule(optimizer: torch.optim.Optimizer, settings: Any, steps: int) -> Any:
    """The learning rate over ``steps`` optimizer steps, with warm-up."""
    from transformers import get_scheduler

    # The first step of a warm-up has rate 0: a run of a single step would learn nothing.
    warmup = math.ceil(settings.warmup_ratio * steps) if steps > 1 else 0
    name = settings.lr_scheduler
    if name == "constant" and warmup:
        name = "constant_with_warmup"
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
