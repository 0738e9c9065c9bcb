"""What an objective is: the payload of an ``objective`` variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Objective:
    """``choose_head(model, batch)`` picks how logits are computed; ``summed_loss(model, batch,
    head)`` is the loss summed over the label tokens of a batch. The Trainer divides it by the
    number of label tokens of the whole optimizer step. Both import torch only when called."""

    choose_head: Callable[[Any, Any], Any]
    summed_loss: Callable[[Any, Any, Any], Any]
