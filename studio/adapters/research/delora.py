"""DeLoRA (Bini et al., 2025, arXiv:2503.18225): trains direction and strength of the change separately."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class DeloraSettings(Settings):
    """Settings of DeLoRA."""

    strength: int = setting(
        1,
        "Bound",
        "Initial bound on the norm of the change. Larger bounds learn and diverge "
        "sooner: with 15, a model with 135 M parameters diverged at every learning "
        "rate tried.",
        ge=1,
        le=1000,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, DeloraSettings)
    return peft_config(
        "DeloraConfig",
        value,
        r=value.r,
        delora_lambda=own.strength,
        module_dropout=value.dropout,
        rank_pattern=dict(value.rank_pattern),
    )


VARIANT = Variant(
    kind="adapter",
    id="delora",
    title="DeLoRA",
    order=410,
    settings=DeloraSettings,
    help="LoRA whose change has a bounded, trained norm. When to use it: if "
    "training diverges or the model forgets. Bini et al. 2025, "
    "arXiv:2503.18225.",
    payload=LoraMethod(
        _build,
        # 1e-3 in PEFT's method comparison, 3e-3 in PEFT's example.
        learning_rates=(3e-4, 1e-3, 1e-2),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2503.18225",
        uses=frozenset({"r", "dropout"}),
    ),
)
