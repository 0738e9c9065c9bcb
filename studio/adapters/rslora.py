"""Rank-stabilised LoRA (Kalajdzievski, 2023, arXiv:2312.03732): the scale is alpha / sqrt(r)."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config


def _build(value: AdaptedModelValue) -> Any:
    return lora_config(value, use_rslora=True)


VARIANT = Variant(
    kind="adapter",
    id="rslora",
    title="rsLoRA",
    order=20,
    help="LoRA with the scaling alpha / √r, so that high ranks learn as well as low "
    "ones. When to use it: ranks of 64 and more. Kalajdzievski 2023, "
    "arXiv:2312.03732.",
    payload=LoraMethod(
        _build,
        # The same as LoRA at equal scale.
        learning_rates=(2e-5, 2e-4, 2e-3),
        experts=True,
        ends=True,
        paper="arXiv:2312.03732",
    ),
)
