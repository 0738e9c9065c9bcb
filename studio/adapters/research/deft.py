"""DEFT (Kumar et al., 2025, arXiv:2509.22793): removes a low-rank part of the weight and adds another one."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class DeftSettings(Settings):
    """Settings of DEFT."""

    projection: Literal["relu", "qr"] = setting(
        "relu",
        "Projection",
        "How the part is removed. ReLU is fast. QR removes exactly the directions "
        "of P, and computes a decomposition in every step.",
        choice_labels={"relu": "ReLU", "qr": "Orthogonal (QR)"},
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, DeftSettings)
    return peft_config(
        "DeftConfig",
        value,
        r=value.r,
        alpha=value.alpha,
        deft_dropout=value.dropout,
        decomposition_method=own.projection,
    )


VARIANT = Variant(
    kind="adapter",
    id="deft",
    title="DEFT",
    order=470,
    settings=DeftSettings,
    help="Removes a low-rank part of the weight and replaces it with a trained one. "
    "When to use it: to learn something new with little forgetting; evaluated "
    "on images. Kumar et al. 2025, arXiv:2509.22793.",
    payload=LoraMethod(
        _build,
        # 3e-4 in PEFT's example.
        learning_rates=(5e-5, 3e-4, 3e-3),
        research=True,
        quantized=(),
        paper="arXiv:2509.22793",
        uses=frozenset({"r", "alpha", "dropout"}),
        why_not_quantized="its initialization is a product with the weight itself, which is packed "
        "there",
    ),
)
