"""MiCA (2026, arXiv:2604.01694): B is fixed to the base's minor singular directions, A is trained."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config


def _build(value: AdaptedModelValue) -> Any:
    return lora_config(value, init_lora_weights="mica")


VARIANT = Variant(
    kind="adapter",
    id="mica",
    title="MiCA",
    order=310,
    help="Trains only A, and writes only into the least used directions of the base "
    "weights. When to use it: to preserve the knowledge of the model. "
    "arXiv:2604.01694.",
    payload=LoraMethod(
        _build,
        research=True,
        quantized=(),
        paper="arXiv:2604.01694",
        why_not_quantized="the singular directions of quantized weights cannot be computed",
    ),
)
