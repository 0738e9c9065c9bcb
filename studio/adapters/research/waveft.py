"""WaveFT (Bilican et al., 2025, arXiv:2505.12532): a few wavelet coefficients of each change."""

from __future__ import annotations

from typing import Any

from studio.adapters.research.coefficients import (
    coefficient_config,
    coefficients_fit,
    count_setting,
    scale_setting,
    seed_setting,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings


class WaveftSettings(Settings):
    """Settings of WaveFT."""

    frequencies: int = count_setting(2592)
    scaling: float = scale_setting(25.0)
    seed: int = seed_setting()


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, WaveftSettings)
    return coefficient_config("WaveFTConfig", value, own)


VARIANT = Variant(
    kind="adapter",
    id="waveft",
    title="WaveFT",
    order=350,
    settings=WaveftSettings,
    help="Trains a few wavelet coefficients of the change of each layer. When to "
    "use it: very small files. Bilican et al. 2025, arXiv:2505.12532.",
    payload=LoraMethod(
        _build,
        research=True,
        paper="arXiv:2505.12532",
        uses=frozenset(),
        fits=coefficients_fit,
    ),
)
