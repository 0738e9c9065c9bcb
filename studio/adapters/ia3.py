"""IA³ (Liu et al., 2022, arXiv:2205.05638): a trained scaling vector for the outputs or inputs of each layer."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config

INPUT_SCALED = ("down_proj", "fc2", "c_proj", "w2", "wo", "dense_4h_to_h", "fc_out")
"""Layers whose inputs are scaled instead of their outputs: the last ones of feed-forward blocks."""


def _feedforward(targets: list[str]) -> list[str]:
    return [t for t in targets if t.rpartition(".")[2] in INPUT_SCALED]


def _build(value: AdaptedModelValue) -> Any:
    return peft_config("IA3Config", value, feedforward_modules=_feedforward(value.target_modules))


VARIANT = Variant(
    kind="adapter",
    id="ia3",
    title="IA³",
    order=200,
    help="Trains one scaling factor per channel, which needs about a thousandth of "
    "the parameters of LoRA. When to use it: few rows and a small change, with "
    "a learning rate of 1e-3 to 1e-2. Liu et al. 2022, arXiv:2205.05638.",
    payload=LoraMethod(
        _build,
        # 3e-3 in the paper, 1e-3 and 5e-3 in PEFT's method comparison.
        learning_rates=(1e-3, 3e-3, 2e-2),
        quantized=(),
        paper="arXiv:2205.05638",
        uses=frozenset(),
    ),
)
