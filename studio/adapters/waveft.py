"""WaveFT (Bilican et al., 2025, arXiv:2505.12532): a few wavelet coefficients of each change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.adapters._method import LoraMethod, own_settings, peft_config, too_many
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.layers import LinearModule
from studio.values import AdaptedModelValue


class WaveftSettings(Settings):
    """What is particular to WaveFT."""

    frequencies: int = setting(
        2592, "Coefficients", "Trained numbers a layer, at most its entries.", ge=1, le=1_000_000,
        log_scale=True,
    )  # fmt: skip
    scaling: float = setting(
        25.0, "Scale", "What the change is multiplied with.", gt=0.0, le=10000.0
    )
    seed: int = setting(
        777, "Location seed", "Which coefficients are trained.", ge=0, le=2**31 - 1, advanced=True
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, WaveftSettings)
    return peft_config(
        "WaveFTConfig",
        value,
        n_frequency=own.frequencies,
        scaling=own.scaling,
        random_loc_seed=own.seed,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return too_many("method_settings.frequencies", own.frequencies, layers)


VARIANT = Variant(
    kind="adapter", id="waveft", title="WaveFT", order=350, settings=WaveftSettings,
    help="Trains a few wavelet coefficients of each layer's change. Experimental. When to use it: very "
    "small files. Bilican et al. 2025, arXiv:2505.12532.",
    payload=LoraMethod(
        _build, paper="arXiv:2505.12532", uses=frozenset(), fits=_fits,
    ),
)  # fmt: skip
