"""The learning rate schedules of the Train node: the rate at each step as a share of its peak.

Why beside the settings: training uses these functions, and the inspector draws them without torch.
Steps are counted from 0; the factor of step ``s`` applies to update ``s + 1``. The values equal those of
``transformers.get_scheduler``. It must not know an optimizer.
"""

from __future__ import annotations

import math

from studio.node_settings.train import TrainSettings

FIELDS = (
    "learning_rate",
    "lr_scheduler",
    "warmup_ratio",
    "warmup_steps",
    "min_lr_ratio",
    "lr_cycles",
    "decay_ratio",
    "lr_power",
)
"""The settings that a schedule depends on; its length comes from elsewhere."""

INVERSE_SQRT_SCALE = 10_000
"""Number of steps after which the inverse square root has fallen to 1/√2 without warmup."""


def warmup_steps(settings: TrainSettings, steps: int) -> int:
    """The number of warmup steps: set in steps, else as a fraction of the run.

    The first warmup step has a learning rate of 0, so a run of a single step would learn nothing.
    """
    if steps <= 1:
        return 0
    wanted: int = settings.warmup_steps or math.ceil(settings.warmup_ratio * steps)
    return min(wanted, steps)


def rate_factor(settings: TrainSettings, step: int, steps: int) -> float:
    """The factor of the learning rate at ``step`` (from 0) of ``steps``."""
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        rising = step / max(1, warmup)
        low: float = settings.min_lr_ratio if settings.lr_scheduler == "wsd" else 0.0
        return rising * (1.0 - low) + low
    if settings.lr_scheduler == "wsd":
        return _stable_then_down(settings, step, steps)
    if settings.lr_scheduler == "inverse_sqrt":
        scale = warmup or INVERSE_SQRT_SCALE
        return float(1.0 / math.sqrt((step + scale - warmup) / scale))
    return _falling(settings, step, warmup, steps)


def _falling(settings: TrainSettings, step: int, warmup: int, steps: int) -> float:
    """The schedules that depend on the fraction of the steps after warmup."""
    name, low = settings.lr_scheduler, float(settings.min_lr_ratio)
    if name == "constant":
        return 1.0
    if name == "linear":
        return max(0.0, (steps - step) / max(1, steps - warmup))
    done = (step - warmup) / max(1, steps - warmup)
    if name == "cosine":
        return max(0.0, _half_cosine(done))
    if name == "cosine_with_min_lr":
        return max(0.0, _half_cosine(done) * (1 - low) + low)
    if name == "cosine_with_restarts":
        return 0.0 if done >= 1.0 else max(0.0, _half_cosine((settings.lr_cycles * done) % 1.0))
    if name == "polynomial":
        return float((1.0 - low) * max(0.0, 1 - done) ** settings.lr_power + low)
    raise ValueError(f"unknown schedule {name!r}")


def _half_cosine(done: float) -> float:
    """From 1 to 0 (Loshchilov and Hutter, 2016, arXiv:1608.03983)."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _stable_then_down(settings: TrainSettings, step: int, steps: int) -> float:
    """Warm-up, stable, decay (Hu et al., 2024, arXiv:2404.06395), with the decay 1 - √ that
    Hägele et al. (2024, arXiv:2405.18392) found best."""
    falling = decay_steps(settings, steps)
    begun = steps - falling
    if step < begun:
        return 1.0
    if step >= steps:
        return float(settings.min_lr_ratio)
    left = 1.0 - math.sqrt((step - begun) / max(1, falling))
    return float(max(0.0, left * (1.0 - settings.min_lr_ratio) + settings.min_lr_ratio))


def decay_steps(settings: TrainSettings, steps: int) -> int:
    """The number of decay steps of the schedule “warmup, stable, decay”."""
    wanted: int = math.ceil(settings.decay_ratio * steps)
    return max(0, min(wanted, steps - warmup_steps(settings, steps)))
