"""RandLoRA (Albert et al., 2025, arXiv:2502.00987): full-rank sums of scaled random bases."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class RandloraSettings(Settings):
    """Settings of RandLoRA."""

    rank: int = setting(
        32,
        "Basis rank",
        "Rank of each random basis. Smaller values give more bases and more parameters.",
        ge=1,
        le=1024,
        log_scale=True,
    )
    strength: int = setting(
        640,
        "Strength",
        "Scaling of the sum. A typical value is 20 times the rank.",
        ge=1,
        le=65536,
    )
    seed: int = setting(
        0, "Projection seed", "Seed of the random bases.", ge=0, le=2**31 - 1, advanced=True
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, RandloraSettings)
    return peft_config(
        "RandLoraConfig",
        value,
        r=own.rank,
        randlora_alpha=own.strength,
        randlora_dropout=value.dropout,
        projection_prng_key=own.seed,
        save_projection=True,
    )


VARIANT = Variant(
    kind="adapter",
    id="randlora",
    title="RandLoRA",
    order=370,
    settings=RandloraSettings,
    help="Sums many fixed random bases with trained scales, which gives full rank. "
    "Large files. When to use it: if the rank of LoRA is not sufficient. "
    "Albert et al. 2025, arXiv:2502.00987.",
    payload=LoraMethod(
        _build,
        # 3e-4 in PEFT's example, 1e-4 in PEFT's method comparison.
        learning_rates=(5e-5, 3e-4, 2e-3),
        research=True,
        quantized=(),
        paper="arXiv:2502.00987",
        uses=frozenset({"dropout"}),
    ),
)
