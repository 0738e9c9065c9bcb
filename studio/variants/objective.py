"""What an objective is: the payload of an ``objective`` variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LossOptions:
    """What is added to the plain cross-entropy of a training; a validation loss goes without.

    ``label_smoothing`` is the share of the target that is spread over the whole vocabulary (Szegedy
    et al. 2016), ``z_loss`` the factor of log(Z)² that keeps logits small (Chowdhery et al. 2022).
    ``neftune_alpha`` is for whoever calls the objective: see ``studio.training.loop.noise``.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    neftune_alpha: float = 0.0


PLAIN_LOSS = LossOptions()


@dataclass(frozen=True)
class Objective:
    """``choose_head(model, batch)`` picks how logits are computed; ``summed_loss(model, batch, head,
    options)`` is the loss summed over the label tokens of a batch, each times its weight where the
    batch has weights. The training loop divides it by ``studio.training.loop.sft.total_weight`` of the whole
    optimizer step. Both import torch only when called."""

    choose_head: Callable[[Any, Any], Any]
    summed_loss: Callable[..., Any]
