"""The hooks of a LoRA method for one model, called by the training loop.

The training loop does not depend on methods: it calls this object, whose hooks do nothing for a
plain LoRA. The initial A and B of a method that is initialized from the base (PiSSA and related
methods) are kept here and saved in every checkpoint.
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
    """``model`` is the base with its adapter.

    ``start`` holds the initial A and B, by parameter name, of a method that is initialized from the
    base's weights.
    """

    method: LoraMethod
    adapted: AdaptedModelValue
    model: Any
    start: Start = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """The factor of the learning rate for the parameter ``name``."""
        rate = self.method.hooks.rate
        return rate(self.adapted, name) if rate else 1.0

    def penalty(self) -> torch.Tensor | None:
        """A regularization term of the loss, once per optimizer step."""
        penalty = self.method.hooks.penalty
        return penalty(self.model) if penalty else None

    def before_step(self, step: int) -> None:
        """Called before optimizer step ``step`` (from 1), after gradients were clipped."""
        if self.method.hooks.before_step:
            self.method.hooks.before_step(self.model, step)

    def after_step(self, step: int) -> None:
        """Called after optimizer step ``step``, before gradients are set to zero."""
        if self.method.hooks.after_step:
            self.method.hooks.after_step(self.model, step)

    def state(self) -> State:
        """The state that a checkpoint holds in addition to the adapter's weights."""
        tensors: dict[str, Any] = {}
        values: dict[str, Any] = {}
        if self.method.hooks.state:
            tensors, values = self.method.hooks.state(self.model)
        return {**tensors, **{_START + n: t for n, t in self.start.items()}}, values

    def restore(self, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        """Restore the result of ``state``; the weights are already loaded."""
        if self.method.hooks.restore:
            own = {n: t for n, t in tensors.items() if not n.startswith(_START)}
            self.method.hooks.restore(self.model, own, values)

    def continue_from(self, tensors: dict[str, Any]) -> None:
        """Use the initial A and B of a checkpoint."""
        self.begin_with(
            {n.removeprefix(_START): t for n, t in tensors.items() if n.startswith(_START)}
        )

    def begin_with(self, start: Start) -> None:
        """Store the initial A and B, and subtract them from the layers' outputs."""
        self.start = start
        subtract(self.model, start)
