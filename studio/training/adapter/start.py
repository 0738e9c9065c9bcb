"""Initialization from the base's own weights (PiSSA, OLoRA, CorDA, LoRA-GA) without changing the
base.

In the papers W - s B0 A0 is frozen and s B A is trained. In half precision the rounding of that
difference would be lost when the adapter is loaded on the original base (measured on a 135M model:
logits off by 1.5). So the base stays unchanged, and each layer subtracts s B0 A0 x in its forward
pass. This is mathematically the same, and the saved [B, -B0] [A; A0] is exactly what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

Start = dict[str, torch.Tensor]
"""The initial A and B by parameter name, on the CPU."""


def lora_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The adapted linear layers of a model, by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            yield name, layer


@torch.no_grad()
def begin_from_base(model: Any, config: Any, how: str, check: Callable[[], None]) -> Start:
    """Let PEFT initialize A and B of each layer from its weights, then restore the weights."""
    start: Start = {}
    for name, layer in lora_layers(model):
        check()
        weight = layer.get_base_layer().weight
        before = weight.data.clone()
        _compute(layer, config, how)
        layer.get_base_layer().weight.data = before
        for part in (layer.lora_A["default"], layer.lora_B["default"]):
            part.weight.data = part.weight.data.float().contiguous()
        start[f"{name}.lora_A.default.weight"] = (
            layer.lora_A["default"].weight.detach().cpu().clone()
        )
        start[f"{name}.lora_B.default.weight"] = (
            layer.lora_B["default"].weight.detach().cpu().clone()
        )
    return start


def _compute(layer: Any, config: Any, how: str) -> None:
    if how == "olora":
        layer.olora_init("default")
    elif how == "corda":
        layer.corda_init("default", how)
    elif how == "lora_ga":
        layer.lora_ga_init("default", config.lora_ga_config)
        vars(layer.get_base_layer()).pop("_peft_loraga_grad", None)  # as large as the weight
    else:
        layer.pissa_init("default", how)


def subtract(model: Any, start: Start) -> None:
    """From now on each layer computes W x + s (B A - B0 A0) x; the sum is rounded once."""
    for name, layer in lora_layers(model):
        down, up = layer.lora_A["default"], layer.lora_B["default"]
        a = start[f"{name}.lora_A.default.weight"].to(down.weight.device)
        b = start[f"{name}.lora_B.default.weight"].to(up.weight.device)
        _hook(down, up, a, b)


def _hook(down: Any, up: Any, a: torch.Tensor, b: torch.Tensor) -> None:
    """Make ``up(down(x))`` return its result minus b a x; a is (r, in), b (out, r). ``down`` is called first."""
    taken: list[torch.Tensor] = []

    def see(module: Any, inputs: Any, output: Any) -> None:
        del module, output
        linear = torch.nn.functional.linear
        taken[:] = [linear(linear(inputs[0].to(a.dtype), a), b)]

    def take(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        del module, inputs
        return output - taken.pop()

    down.register_forward_hook(see)
    up.register_forward_hook(take)
