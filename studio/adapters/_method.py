"""What a LoRA method is: the payload of an ``adapter`` variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studio.values import AdaptedModelValue


@dataclass(frozen=True)
class LoraMethod:
    """``build(value)`` makes the PEFT config; peft is imported only when it is called.

    ``quantized`` names the quantizations of the base that the method was seen to train on soundly;
    any other is refused before training.
    """

    build: Callable[[AdaptedModelValue], Any]
    quantized: tuple[str, ...] = ("nf4", "int8")


def lora_config(value: AdaptedModelValue, **more: Any) -> Any:
    """A ``peft.LoraConfig`` with the settings that all methods share."""
    from peft import LoraConfig

    return LoraConfig(
        r=value.r, lora_alpha=value.alpha, lora_dropout=value.dropout, bias=value.bias,
        target_modules=list(value.target_modules), task_type="CAUSAL_LM", **more,
    )  # fmt: skip
