"""PEANuT (Zhong et al., 2024, arXiv:2410.01870): a small network computes each change from the weight."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class PeanutSettings(Settings):
    """Settings of PEANuT."""

    depth: int = setting(
        0,
        "Inner layers",
        "Pairs of r × r layers between A and B. 0 to 3; deeper learns more and is slower.",
        ge=0,
        le=8,
    )
    activation: Literal["relu", "silu", "gelu", "tanh"] = setting(
        "relu",
        "Activation",
        "The non-linear function between the layers. ReLU is the paper's.",
        advanced=True,
        choice_labels={"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "tanh": "Tanh"},
    )
    scaling: float = setting(
        1.0, "Scale", "What the change is multiplied with.", gt=0.0, le=100.0, log_scale=True
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, PeanutSettings)
    return peft_config(
        "PeanutConfig",
        value,
        r=value.r,
        depth=own.depth,
        act_fn=own.activation,
        scaling=own.scaling,
    )


VARIANT = Variant(
    kind="adapter",
    id="peanut",
    title="PEANuT",
    order=460,
    settings=PeanutSettings,
    help="A small network turns the weight itself into its change, which need not be linear. Slower than "
    "LoRA, and it keeps a copy of each chosen weight in memory. When to use it: very few "
    "parameters, where LoRA of rank 1 or 2 learns too little. Zhong et al. 2024, arXiv:2410.01870.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's example.
        learning_rates=(2e-5, 1e-4, 1e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2410.01870",
        uses=frozenset({"r"}),
        why_not_quantized="it computes the change out of the weight itself, which is packed there",
    ),
)
