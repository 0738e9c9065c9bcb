"""LoKr (Yeh et al., 2023, arXiv:2309.14859): the Kronecker product of a small and a low-rank matrix."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class LokrSettings(Settings):
    """Settings of LoKr."""

    factor: int = setting(
        0,
        "Factor",
        "Size of the smaller matrix of the Kronecker product. Larger values give more parameters.",
        ge=0,
        le=4096,
        special={0: "near the square root"},
    )
    decompose_both: bool = setting(
        False,
        "Decompose both",
        "Also factorize the smaller matrix, which gives even smaller files.",
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, LokrSettings)
    return peft_config(
        "LoKrConfig",
        value,
        r=value.r,
        alpha=value.alpha,
        rank_dropout=value.dropout,
        decompose_both=own.decompose_both,
        decompose_factor=own.factor or -1,
        rank_pattern=dict(value.rank_pattern),
        alpha_pattern=dict(value.alpha_pattern),
    )


VARIANT = Variant(
    kind="adapter",
    id="lokr",
    title="LoKr",
    order=230,
    settings=LokrSettings,
    help="Uses a Kronecker product instead of B A, which gives very small files. "
    "When to use it: if the size of the adapter matters most. Yeh et al. 2023, "
    "arXiv:2309.14859.",
    payload=LoraMethod(
        _build,
        # 1e-3 and 3e-3 in PEFT's method comparison.
        learning_rates=(3e-4, 1e-3, 1e-2),
        transposed=False,
        quantized=("int8",),
        paper="arXiv:2309.14859",
        uses=frozenset({"r", "alpha", "dropout", "patterns"}),
    ),
)
