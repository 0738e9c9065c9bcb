"""A LoRA method at work on one model: its hooks, called at the places where a training has them.

Why: the loop must not know the methods. It asks this object, which does nothing for a plain LoRA.
The start of a method that takes it out of the base (PiSSA and its kin) is kept here and goes into every
checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from studio.training.adapter.start import Start, subtract
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, State

_START = "start."


@dataclass
class Tuning:
    """``model`` is the base with its adapter. ``start`` holds the first A and B of a method that
    starts from the base's weights, by parameter name."""

    method: LoraMethod
    adapted: AdaptedModelValue
    model: Any
    start: Start = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """What the learning rate of the parameter ``name`` is multiplied with."""
        rate = self.method.hooks.rate
        return rate(self.adapted, name) if rate else 1.0

    def penalty(self) -> torch.Tensor | None:
        """A term of the loss, once per optimizer step."""
        penalty = self.method.hooks.penalty
        return penalty(self.model) if penalty else None

    def before_step(self, step: int) -> None:
        """Before the optimizer's step number ``step`` (from 1): gradients are there and clipped."""
        if self.method.hooks.before_step:
            self.method.hooks.before_step(self.model, step)

    def after_step(self, step: int) -> None:
        """After the optimizer's step number ``step``; the gradients are still there."""
        if self.method.hooks.after_step:
            self.method.hooks.after_step(self.model, step)

    def state(self) -> State:
        """What a checkpoint must hold besides the adapter's weights."""
        tensors: dict[str, Any] = {}
        values: dict[str, Any] = {}
        if self.method.hooks.state:
            tensors, values = self.method.hooks.state(self.model)
        return {**tensors, **{_START + n: t for n, t in self.start.items()}}, values

    def restore(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        """Put back what ``state`` gave; the weights are in place."""
        if self.method.hooks.restore:
            own = {n: t for n, t in tensors.items() if not n.startswith(_START)}
            self.method.hooks.restore(self.model, own, values)

    def continue_from(self, tensors: dict[str, Any]) -> None:
        """Take up the start that a checkpoint holds."""
        self.begin_with(
            {n.removeprefix(_START): t for n, t in tensors.items() if n.startswith(_START)}
        )

    def begin_with(self, start: Start) -> None:
        """Keep the start and leave it out of what the model computes."""
        self.start = start
        subtract(self.model, start)
