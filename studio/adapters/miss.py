"""MiSS (Kang and Yin, 2024, arXiv:2409.15371): one matrix shared by shards of the weight."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    return peft_config(
        "MissConfig",
        value,
        r=value.r,
        miss_dropout=value.dropout,
    )


VARIANT = Variant(
    kind="adapter",
    id="miss",
    title="MiSS",
    order=390,
    help="Trains a single matrix per layer that is shared by shards of the weight; "
    "faster than LoRA. When to use it: a high rank with little training time. "
    "Kang and Yin 2024, arXiv:2409.15371.",
    payload=LoraMethod(
        _build,
        # 2e-5 in PEFT's example, 1e-4 in PEFT's method comparison.
        learning_rates=(1e-5, 1e-4, 1e-3),
        transposed=False,
        paper="arXiv:2409.15371",
        uses=frozenset({"r", "dropout"}),
    ),
)
