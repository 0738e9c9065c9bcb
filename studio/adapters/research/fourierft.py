"""FourierFT (Gao et al., 2024, arXiv:2405.03003): a few Fourier coefficients of each change."""

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


class FourierftSettings(Settings):
    """Settings of FourierFT."""

    frequencies: int = count_setting(1000)
    scaling: float = scale_setting(150.0)
    seed: int = seed_setting()


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, FourierftSettings)
    return coefficient_config("FourierFTConfig", value, own, init_weights=True)


VARIANT = Variant(
    kind="adapter",
    id="fourierft",
    title="FourierFT",
    order=340,
    settings=FourierftSettings,
    help="Trains a few Fourier coefficients of the change of each layer. When to "
    "use it: very small files. The learning rate is 10 to 100 times that of "
    "LoRA. Gao et al. 2024, arXiv:2405.03003.",
    payload=LoraMethod(
        _build,
        # 1e-3 to 1e-1 in the paper.
        learning_rates=(1e-3, 5e-3, 1e-1),
        research=True,
        paper="arXiv:2405.03003",
        uses=frozenset(),
        fits=coefficients_fit,
    ),
)
