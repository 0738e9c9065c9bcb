"""OFT (Qiu et al., 2023, arXiv:2306.07280): block-diagonal rotations of the weights."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class OftSettings(Settings):
    """Settings of OFT."""

    block_size: int = setting(
        32,
        "Block size",
        "Size of the rotated blocks. Larger blocks have more parameters. It is "
        "adjusted in layers whose width it does not divide.",
        ge=2,
        le=1024,
        log_scale=True,
    )
    constrained: bool = setting(
        False, "Constrained", "Limit the rotation to small angles.", advanced=True
    )
    share: bool = setting(
        False,
        "Share blocks",
        "Use the same rotation for all blocks of a layer, which needs far fewer parameters.",
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, OftSettings)
    return peft_config(
        "OFTConfig",
        value,
        oft_block_size=own.block_size,
        r=0,
        module_dropout=value.dropout,
        coft=own.constrained,
        block_share=own.share,
    )


VARIANT = Variant(
    kind="adapter",
    id="oft",
    title="OFT",
    order=240,
    settings=OftSettings,
    help="Rotates the weights instead of adding to them, which preserves the angles "
    "between them. When to use it: to change the style with little forgetting. "
    "Qiu et al. 2023, arXiv:2306.07280.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's method comparison.
        learning_rates=(5e-5, 2e-4, 5e-3),
        transposed=False,
        paper="arXiv:2306.07280",
        uses=frozenset({"dropout"}),
    ),
)
