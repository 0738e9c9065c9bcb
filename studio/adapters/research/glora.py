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
        "Paths of the weight",
        "Form of A, which scales the weight, and of B, which is added. Low "
        "rank: twice a LoRA's parameters. A vector: one number for each output.",
        choice_labels={"lora": "Low rank", "vector": "Vector", "constant": "One number"},
    )
    coupling: Literal["lora", "vector", "none"] = setting(
        "lora",
        "Weight to bias",
        "Form of C: W C is added to the bias. Only in layers with a bias.",
        choice_labels={"lora": "Low rank", "vector": "Vector", "none": "None"},
        advanced=True,
    )
    bias: Literal["vector", "constant", "none"] = setting(
        "constant",
        "Paths of the bias",
        "Form of D, which scales the bias, and of E, which is added. Only in layers with a bias.",
        choice_labels={"vector": "Vector", "constant": "One number", "none": "None"},
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
    help="Scales the weight entry by entry and adds to it, each by a product of low rank, and changes the "
    "bias where there is one. When to use it: a task that needs more than adding. Chavan et "
    "al. 2023, arXiv:2306.07967.",
    payload=LoraMethod(
        _build,
        # 5e-4 in PEFT's method comparison, 3e-4 in PEFT's example.
        learning_rates=(5e-5, 3e-4, 3e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2306.07967",
        uses=frozenset({"r"}),
        why_not_quantized="it scales the entries of the weight, which are packed there",
    ),
)
