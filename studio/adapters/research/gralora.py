"""GraLoRA (Jung et al., 2025, arXiv:2505.20355): a separate LoRA for each block of the weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, misfit, own_settings, peft_config


class GraloraSettings(Settings):
    """Settings of GraLoRA."""

    blocks: int = setting(
        2,
        "Blocks",
        "Number of blocks per side. It must divide the rank and the widths of every adapted layer.",
        ge=1,
        le=64,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, GraloraSettings)
    return peft_config(
        "GraloraConfig",
        value,
        r=value.r,
        alpha=value.alpha,
        gralora_dropout=value.dropout,
        gralora_k=own.blocks,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return misfit("method_settings.blocks", own.blocks, layers)


VARIANT = Variant(
    kind="adapter",
    id="gralora",
    title="GraLoRA",
    order=420,
    settings=GraloraSettings,
    help="Divides each weight into k × k blocks with a small LoRA each. When to use "
    "it: ranks of 64 and more, where LoRA stops improving. Jung et al. 2025, "
    "arXiv:2505.20355.",
    payload=LoraMethod(
        _build,
        # 2e-4 in PEFT's method comparison.
        learning_rates=(2e-5, 2e-4, 2e-3),
        research=True,
        paper="arXiv:2505.20355",
        uses=frozenset({"r", "alpha", "dropout"}),
        fits=_fits,
    ),
)
