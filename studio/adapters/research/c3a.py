"""C3A (Chen et al., 2024, arXiv:2407.19342): blockwise circular convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, misfit, own_settings, peft_config


class C3aSettings(Settings):
    """Settings of C3A."""

    block_size: int = setting(
        64,
        "Block size",
        "It must divide the widths of every adapted layer. Smaller blocks have more parameters.",
        ge=1,
        le=8192,
        log_scale=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, C3aSettings)
    return peft_config(
        "C3AConfig",
        value,
        block_size=own.block_size,
        init_weights=True,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return misfit("method_settings.block_size", own.block_size, layers)


VARIANT = Variant(
    kind="adapter",
    id="c3a",
    title="C3A",
    order=360,
    settings=C3aSettings,
    help="Adds block-circulant matrices, which have full rank with few parameters. "
    "When to use it: a task that needs a high rank in a small file. Chen et "
    "al. 2024, arXiv:2407.19342.",
    payload=LoraMethod(
        _build,
        # 3e-1 in PEFT's method comparison.
        learning_rates=(1e-2, 1e-1, 5e-1),
        research=True,
        transposed=False,
        paper="arXiv:2407.19342",
        uses=frozenset(),
        fits=_fits,
    ),
)
