"""The payload of an ``objective`` variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LossOptions:
    """Additions to the cross-entropy loss of a training; the validation loss does not include them.

    ``label_smoothing`` is the share of the target that is spread over the vocabulary (Szegedy et
    al. 2016), ``z_loss`` the factor of log(Z)², which keeps logits small (Chowdhery et al. 2022).
    ``neftune_alpha`` is applied by the training loop: see ``studio.training.loop.noise``.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    neftune_alpha: float = 0.0


PLAIN_LOSS = LossOptions()


@dataclass(frozen=True)
class Objective:
    """``choose_head(model, batch)`` selects how logits are computed. ``summed_loss(model, batch,
    head, options)`` is the loss summed over the label tokens of a batch, each multiplied by its
    weight if the batch has weights.

    The training loop divides it by ``studio.training.loop.sft.total_weight`` of the optimizer step.
    Both import torch only when called.
    """

    choose_head: Callable[[Any, Any], Any]
    summed_loss: Callable[..., Any]
