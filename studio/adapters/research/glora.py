"""GLoRA (Chavan et al., 2023, arXiv:2306.07967): scales the weight elementwise and adds to it."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class GloraSettings(Settings):
    """The forms of the five paths; those of the bias only apply to layers with a bias."""

    weight: Literal["lora", "vector", "constant"] = setting(
        "lora",
        "Weight terms",
        "Form of A, which scales the weight, and of B, which is added to it. Low "
        "rank has twice the parameters of LoRA; a vector has one value per output.",
        choice_labels={"lora": "Low rank", "vector": "Vector", "constant": "Scalar"},
    )
    coupling: Literal["lora", "vector", "none"] = setting(
        "lora",
        "Weight to bias",
        "Form of C: W C is added to the bias. Applies to layers with a bias.",
        choice_labels={"lora": "Low rank", "vector": "Vector", "none": "None"},
        advanced=True,
    )
    bias: Literal["vector", "constant", "none"] = setting(
        "constant",
        "Bias terms",
        "Form of D, which scales the bias, and of E, which is added to it. Applies "
        "to layers with a bias.",
        choice_labels={"vector": "Vector", "constant": "Scalar", "none": "None"},
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, GloraSettings)
    return peft_config(
        "GloraConfig",
        value,
        r=value.r,
        config_A_B=own.weight,
        config_C=own.coupling,
        config_D_E=own.bias,
    )


VARIANT = Variant(
    kind="adapter",
    id="glora",
    title="GLoRA",
    order=490,
    settings=GloraSettings,
    help="Scales the weight elementwise and adds to it, with a low-rank product for "
    "each, and changes the bias, if there is one. When to use it: a task for "
    "which an added matrix is not sufficient. Chavan et al. 2023, "
    "arXiv:2306.07967.",
    payload=LoraMethod(
        _build,
        # 5e-4 in PEFT's method comparison, 3e-4 in PEFT's example.
        learning_rates=(5e-5, 3e-4, 3e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2306.07967",
        uses=frozenset({"r"}),
        why_not_quantized="it scales the elements of the weight, which are packed there",
    ),
)
