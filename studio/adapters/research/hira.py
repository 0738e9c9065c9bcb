"""HiRA (Huang et al., 2025, ICLR): the change is the Hadamard product of W and B A."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    return peft_config(
        "HiraConfig",
        value,
        r=value.r,
        hira_dropout=value.dropout,
        rank_pattern=dict(value.rank_pattern),
    )


VARIANT = Variant(
    kind="adapter",
    id="hira",
    title="HiRA",
    order=430,
    help="Multiplies the weight elementwise with B A, which gives a high rank at "
    "the size of LoRA. When to use it: a task that needs a higher rank than "
    "LoRA provides. Huang et al. 2025, ICLR.",
    payload=LoraMethod(
        _build,
        # 4.5e-3 in PEFT's method comparison, 3e-4 in PEFT's example.
        learning_rates=(3e-4, 2e-3, 2e-2),
        research=True,
        quantized=(),
        paper="Huang et al., ICLR 2025",
        uses=frozenset({"r", "dropout", "patterns"}),
    ),
)
