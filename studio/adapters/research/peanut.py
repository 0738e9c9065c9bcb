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
        "Number of pairs of r × r layers between A and B. Typical values are 0 to "
        "3; deeper networks learn more and are slower.",
        ge=0,
        le=8,
    )
    activation: Literal["relu", "silu", "gelu", "tanh"] = setting(
        "relu",
        "Activation",
        "Activation function between the layers. The paper uses ReLU.",
        advanced=True,
        choice_labels={"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "tanh": "Tanh"},
    )
    scaling: float = setting(
        1.0, "Scale", "Scaling of the change.", gt=0.0, le=100.0, log_scale=True
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
    help="Computes the change from the weight itself with a small, nonlinear "
    "network. Slower than LoRA, and needs memory for a copy of each adapted "
    "weight. When to use it: very few parameters, if LoRA of rank 1 or 2 "
    "learns too little. Zhong et al. 2024, arXiv:2410.01870.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's example.
        learning_rates=(2e-5, 1e-4, 1e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2410.01870",
        uses=frozenset({"r"}),
        why_not_quantized="it computes the change from the weight itself, which is packed there",
    ),
)
