"""FourierFT (Gao et al., 2024, arXiv:2405.03003): a few Fourier coefficients of each change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.adapters._method import LoraMethod, own_settings, peft_config, too_many
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.layers import LinearModule
from studio.values import AdaptedModelValue


class FourierftSettings(Settings):
    """What is particular to FourierFT."""

    frequencies: int = setting(
        1000, "Coefficients", "Trained numbers a layer, at most its entries.", ge=1, le=1_000_000,
        log_scale=True,
    )  # fmt: skip
    scaling: float = setting(
        150.0, "Scale", "What the change is multiplied with.", gt=0.0, le=10000.0
    )
    seed: int = setting(
        777, "Location seed", "Which coefficients are trained.", ge=0, le=2**31 - 1, advanced=True
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, FourierftSettings)
    return peft_config(
        "FourierFTConfig",
        value,
        n_frequency=own.frequencies,
        scaling=own.scaling,
        random_loc_seed=own.seed,
        init_weights=True,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return too_many("method_settings.frequencies", own.frequencies, layers)


VARIANT = Variant(
    kind="adapter", id="fourierft", title="FourierFT", order=340, settings=FourierftSettings,
    help="Trains a few Fourier coefficients of each layer's change. Experimental. When to use it: very "
    "small files; the learning rate is 10 to 100 times LoRA's. Gao et al. 2024, arXiv:2405.03003.",
    payload=LoraMethod(
        _build, paper="arXiv:2405.03003", uses=frozenset(), fits=_fits,
    ),
)  # fmt: skip
