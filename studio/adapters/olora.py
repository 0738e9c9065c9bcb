"""OLoRA (Büyükakyüz, 2024, arXiv:2406.01775): A and B are initialized by a QR decomposition of the base."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config


def _build(value: AdaptedModelValue) -> Any:
    return lora_config(value, init_lora_weights="olora")


VARIANT = Variant(
    kind="adapter",
    id="olora",
    title="OLoRA",
    order=60,
    help="LoRA initialized with orthonormal directions of the base weights (QR "
    "decomposition). When to use it: to learn faster than LoRA, with a faster "
    "initialization than PiSSA. Saved as a plain LoRA of twice the rank. "
    "Büyükakyüz 2024, arXiv:2406.01775.",
    payload=LoraMethod(
        _build,
        # 3e-4 in PEFT's example.
        learning_rates=(2e-5, 2e-4, 1e-3),
        transposed=False,
        quantized=(),
        starts_from_base=True,
        paper="arXiv:2406.01775",
        why_not_quantized="it is initialized from directions of the base weights, which quantization "
        "obscures",
    ),
)
