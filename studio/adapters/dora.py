"""DoRA (Liu et al., 2024, arXiv:2402.09353): direction by LoRA, length by a trained vector."""

from __future__ import annotations

from typing import Any

from studio.adapters._method import LoraMethod, lora_config
from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue


def _build(value: AdaptedModelValue) -> Any:
    return lora_config(value, use_dora=True)


VARIANT = Variant(
    kind="adapter", id="dora", title="DoRA", order=30,
    help="Trains the length of the weights apart from their direction. Learns a little more at low "
    "rank; slower and needs more memory.",
    payload=LoraMethod(_build, quantized=("nf4",)),  # 8-bit: peft 0.21 crashes while training
)  # fmt: skip
