"""BEFT (2025, arXiv:2509.15974): trains only a bias on each chosen layer."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    return peft_config("BeftConfig", value)


VARIANT = Variant(
    kind="adapter",
    id="beft",
    title="BEFT",
    order=590,
    help="Trains a bias for each output of the target modules. When to use it: a "
    "few dozen rows. The paper adapts only the value projections (v_proj as "
    "target modules), with a learning rate of 1e-3 to 1e-2. It cannot be "
    "merged. arXiv:2509.15974.",
    payload=LoraMethod(
        _build,
        # 1e-3 to 1e-2 in the paper.
        learning_rates=(1e-3, 5e-3, 1e-2),
        research=True,
        transposed=False,
        paper="arXiv:2509.15974",
        uses=frozenset(),
        cannot_merge="they add biases, and the layers of most models have no bias to merge them "
        "into",
    ),
)
