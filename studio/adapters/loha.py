"""LoHa (Hyeon-Woo et al., 2022, arXiv:2108.06098): the Hadamard product of two low-rank matrices."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    return peft_config(
        "LoHaConfig",
        value,
        r=value.r,
        alpha=value.alpha,
        rank_dropout=value.dropout,
        rank_pattern=dict(value.rank_pattern),
        alpha_pattern=dict(value.alpha_pattern),
    )


VARIANT = Variant(
    kind="adapter",
    id="loha",
    title="LoHa",
    order=220,
    help="Multiplies two low-rank products elementwise, which gives a rank of up to "
    "r² from 4 r vectors. When to use it: a task that needs a higher rank than "
    "LoRA provides. Hyeon-Woo et al. 2022, arXiv:2108.06098.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's method comparison.
        learning_rates=(5e-5, 2e-4, 2e-3),
        transposed=False,
        quantized=("int8",),
        paper="arXiv:2108.06098",
        uses=frozenset({"r", "alpha", "dropout", "patterns"}),
    ),
)
