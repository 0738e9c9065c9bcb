"""A LoRA method at work on one model: its hooks, called at the places where a training has them.

Why: the loop must not know the methods. It asks this object, which does nothing for a plain LoRA.
A method that takes its start out of the base (PiSSA and its kin) is also put right here: the start is
kept, goes into every checkpoint, and the adapter is saved as a plain LoRA on the unchanged base.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from studio.adapters._method import LoraMethod, State
from studio.values import AdaptedModelValue

_START = "start."


@dataclass
class Tuning:
    """``model`` is the base with its adapter. ``start`` holds the first A and B of a method that
    changes the base, by parameter name."""

    method: LoraMethod
    adapted: AdaptedModelValue
    model: Any
    start: dict[str, torch.Tensor] = field(default_factory=dict)

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

    def keep_start(self) -> None:
        """Remember A and B as they are now."""
        self.start = {
            n: p.detach().cpu().clone()
            for n, p in self.model.named_parameters()
            if ".lora_A." in n or ".lora_B." in n
        }

    @torch.no_grad()
    def take_start_out(self, tensors: dict[str, Any]) -> None:
        """Change the base as the method did when the run began: W - scale · B A of the kept start."""
        from peft.tuners.lora import LoraLayer
        from peft.utils.other import transpose

        self.start = {n.removeprefix(_START): t for n, t in tensors.items() if n.startswith(_START)}
        for name, layer in self.model.named_modules():
            first = self.start.get(f"{name}.lora_A.default.weight")
            if not isinstance(layer, LoraLayer) or first is None:
                continue
            weight = layer.get_base_layer().weight
            a = first.to(weight.device)
            b = self.start[f"{name}.lora_B.default.weight"].to(weight.device)
            turned = getattr(layer, "fan_in_fan_out", False)
            plain = transpose(weight.data.float(), turned) - layer.scaling["default"] * b @ a
            weight.data = transpose(plain.to(weight.dtype), turned)
