"""DoRA (Liu et al., 2024, arXiv:2402.09353): LoRA trains the direction, a vector the magnitude of each weight."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config


def _build(value: AdaptedModelValue) -> Any:
    return lora_config(value, use_dora=True)


VARIANT = Variant(
    kind="adapter",
    id="dora",
    title="DoRA",
    order=30,
    help="Trains the magnitude and the direction of the weights separately. When to "
    "use it: low ranks (4 to 16), if slower training and more memory are "
    "acceptable. Liu et al. 2024, arXiv:2402.09353.",
    payload=LoraMethod(
        _build,
        # 1e-4 to 2e-4 in the paper, 3e-4 in PEFT's example.
        learning_rates=(2e-5, 2e-4, 2e-3),
        quantized=("nf4",),
        paper="arXiv:2402.09353",
        why_not_quantized="PEFT 0.21 crashes during training in 8 bits",
    ),
)
