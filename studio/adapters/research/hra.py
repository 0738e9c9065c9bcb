"""HRA (Yuan et al., 2024, arXiv:2405.17484): a rotation composed of r reflections."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class HraSettings(Settings):
    """Settings of HRA."""

    orthogonal: bool = setting(
        False,
        "Orthogonal reflections",
        "Keep the reflections orthogonal to each other, which is slower.",
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, HraSettings)
    return peft_config(
        "HRAConfig",
        value,
        r=value.r - value.r % 2,
        apply_GS=own.orthogonal,
    )


VARIANT = Variant(
    kind="adapter",
    id="hra",
    title="HRA",
    order=320,
    settings=HraSettings,
    help="Rotates the weights by r reflections. Slow, and needs much memory. When "
    "to use it: as an alternative to OFT with a selectable rank. Yuan et al. "
    "2024, arXiv:2405.17484.",
    payload=LoraMethod(
        _build,
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2405.17484",
        uses=frozenset({"r"}),
    ),
)
