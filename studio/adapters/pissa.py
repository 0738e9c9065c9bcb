"""PiSSA (Meng et al., 2024, arXiv:2404.02948): A and B are initialized with the base's principal
singular directions.
"""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config, own_settings


class PissaSettings(Settings):
    """How the singular values are computed."""

    niter: int = setting(
        0,
        "Fast SVD",
        "Number of iterations of the fast, approximate SVD. 16 iterations are "
        "close to the exact SVD and take seconds instead of minutes.",
        unit="iterations",
        ge=0,
        le=100,
        special={0: "exact SVD"},
    )


def _build(value: AdaptedModelValue) -> Any:
    niter = own_settings(value, PissaSettings).niter
    return lora_config(value, init_lora_weights=f"pissa_niter_{niter}" if niter else "pissa")


VARIANT = Variant(
    kind="adapter",
    id="pissa",
    title="PiSSA",
    order=50,
    settings=PissaSettings,
    help="LoRA initialized with the largest singular directions of the base "
    "weights; the remainder stays frozen. When to use it: to learn faster than "
    "LoRA in short runs. Saved as a plain LoRA of twice the rank. Meng et al. "
    "2024, arXiv:2404.02948.",
    payload=LoraMethod(
        _build,
        # 2e-5 in the paper; its optimum lies below LoRA's (arXiv:2602.04998).
        learning_rates=(5e-6, 5e-5, 5e-4),
        quantized=(),
        starts_from_base=True,
        paper="arXiv:2404.02948",
        why_not_quantized="it is initialized from directions of the base weights, which quantization "
        "obscures",
    ),
)
