"""BOFT (Liu et al., 2024, arXiv:2311.06243): a rotation made of butterfly factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, misfit, own_settings, peft_config


class BoftSettings(Settings):
    """Settings of BOFT."""

    block_size: int = setting(
        4,
        "Block size",
        "Size of the rotated blocks. It must divide the input width of every adapted layer.",
        ge=2,
        le=256,
        log_scale=True,
    )
    factors: int = setting(
        1,
        "Butterfly factors",
        "Number of factors of the rotation. More factors are finer and slower.",
        ge=1,
        le=8,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, BoftSettings)
    return peft_config(
        "BOFTConfig",
        value,
        boft_block_size=own.block_size,
        boft_n_butterfly_factor=own.factors,
        boft_dropout=value.dropout,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return misfit("method_settings.block_size", own.block_size, layers, "in")


VARIANT = Variant(
    kind="adapter",
    id="boft",
    title="BOFT",
    order=250,
    settings=BoftSettings,
    help="OFT with a butterfly factorization, which rotates the full width with few "
    "parameters. Slow. When to use it: when the blocks of OFT are too coarse. "
    "Liu et al. 2024, arXiv:2311.06243.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's method comparison, 3e-5 in PEFT's example.
        learning_rates=(3e-5, 2e-4, 5e-3),
        transposed=False,
        paper="arXiv:2311.06243",
        uses=frozenset({"dropout"}),
        fits=_fits,
    ),
)
