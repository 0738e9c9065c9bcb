"""SHiRA (Bhardwaj et al., 2024, arXiv:2406.13175): trains a few entries of each weight."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class ShiraSettings(Settings):
    """Settings of SHiRA."""

    seed: int = setting(
        0,
        "Element seed",
        "Seed for selecting the trained elements.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, ShiraSettings)
    return peft_config("ShiraConfig", value, r=value.r, random_seed=own.seed)


VARIANT = Variant(
    kind="adapter",
    id="shira",
    title="SHiRA",
    order=380,
    settings=ShiraSettings,
    help="Trains a few scattered elements of each weight, as many as a LoRA of that "
    "rank. When to use it: adapters that are switched often. Bhardwaj et al. "
    "2024, arXiv:2406.13175.",
    payload=LoraMethod(
        _build,
        # 3e-4 in PEFT's method comparison.
        learning_rates=(5e-5, 3e-4, 3e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2406.13175",
        uses=frozenset({"r"}),
    ),
)
