"""LoRA+ (Hayou et al., 2024, arXiv:2402.12354): B has a higher learning rate than A."""

from __future__ import annotations

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, lora_config, own_settings


class LoraPlusSettings(Settings):
    """The ratio of the learning rates."""

    ratio: float = setting(
        16.0,
        "Learning rate ratio",
        "Learning rate of B divided by that of A. Typical values are 2 to 16. With "
        "a higher ratio, use a slightly lower learning rate.",
        unit="times",
        ge=1.0,
        le=1000.0,
        log_scale=True,
    )


def _rate(value: AdaptedModelValue, name: str) -> float:
    ratio = float(own_settings(value, LoraPlusSettings).ratio)
    return ratio if ".lora_B." in name or ".lora_embedding_B." in name else 1.0


VARIANT = Variant(
    kind="adapter",
    id="lora_plus",
    title="LoRA+",
    order=40,
    settings=LoraPlusSettings,
    help="LoRA with a higher learning rate for B than for A. When to use it: to "
    "learn faster with the same memory. Hayou et al. 2024, arXiv:2402.12354.",
    payload=LoraMethod(
        lora_config,
        # The rate of A; 5e-5 in PEFT's documentation, with a ratio of 16.
        learning_rates=(1e-5, 1e-4, 1e-3),
        experts=True,
        paper="arXiv:2402.12354",
        hooks=Hooks(rate=_rate),
    ),
)
