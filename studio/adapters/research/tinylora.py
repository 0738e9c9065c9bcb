"""TinyLoRA (2026, arXiv:2602.04118): a few trained parameters per layer."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class TinyloraSettings(Settings):
    """Settings of TinyLoRA."""

    rank: int = setting(
        2, "Directions", "Number of singular directions of the base weights to use.", ge=1, le=64
    )
    numbers: int = setting(
        64, "Values per layer", "Number of trained values per layer.", ge=1, le=4096, log_scale=True
    )
    seed: int = setting(
        42, "Projection seed", "Seed of the fixed projection.", ge=0, le=2**31 - 1, advanced=True
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, TinyloraSettings)
    return peft_config(
        "TinyLoraConfig",
        value,
        r=own.rank,
        u=own.numbers,
        projection_seed=own.seed,
        tinylora_dropout=value.dropout,
    )


VARIANT = Variant(
    kind="adapter",
    id="tinylora",
    title="TinyLoRA",
    order=440,
    settings=TinyloraSettings,
    help="Trains a short vector per layer within the singular directions of the "
    "base weights. When to use it: to find the smallest number of parameters "
    "that is sufficient. arXiv:2602.04118.",
    payload=LoraMethod(
        _build,
        # 1e-3 in PEFT's method comparison.
        learning_rates=(1e-4, 1e-3, 1e-2),
        research=True,
        quantized=(),
        paper="arXiv:2602.04118",
        uses=frozenset({"dropout"}),
    ),
)
