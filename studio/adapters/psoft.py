"""PSOFT (2025, arXiv:2505.11235): a rotation inside the base's main directions."""

from __future__ import annotations

from typing import Any

from studio.adapters._method import LoraMethod, peft_config
from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue


def _build(value: AdaptedModelValue) -> Any:
    return peft_config(
        "PsoftConfig", value, r=value.r, psoft_alpha=value.r, psoft_dropout=value.dropout
    )


VARIANT = Variant(
    kind="adapter", id="psoft", title="PSOFT", order=450,
    help="Rotates the weights inside their r main directions. Experimental. When to use it: like OFT, "
    "with far fewer parameters. arXiv:2505.11235.",
    payload=LoraMethod(
        _build, transposed=False, quantized=(), merge_whole=True, paper="arXiv:2505.11235",
        uses=frozenset({"r", "dropout"}),
    ),
)  # fmt: skip
