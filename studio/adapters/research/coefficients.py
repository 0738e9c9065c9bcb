"""Shared parts of FourierFT and WaveFT: a few trained coefficients of each change, at random
positions.

They differ in the transform, the defaults and their publications.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import peft_config, too_many


def count_setting(default: int) -> Any:
    """The number of trained coefficients per layer."""
    return setting(
        default,
        "Coefficients",
        "Number of trained coefficients per layer, at most the number of its weights.",
        ge=1,
        le=1_000_000,
        log_scale=True,
    )


def scale_setting(default: float) -> Any:
    """The factor of the change."""
    return setting(default, "Scale", "Scaling of the change.", gt=0.0, le=10000.0)


def seed_setting() -> Any:
    """The seed of the positions."""
    return setting(
        777,
        "Coefficient seed",
        "Seed for selecting the trained coefficients.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )


def coefficient_config(name: str, value: AdaptedModelValue, own: Any, **more: Any) -> Any:
    """The PEFT config called ``name`` with the method's ``own`` settings."""
    return peft_config(
        name,
        value,
        n_frequency=own.frequencies,
        scaling=own.scaling,
        random_loc_seed=own.seed,
        **more,
    )


def coefficients_fit(
    node: Settings, own: Any, layers: Sequence[LinearModule]
) -> Iterable[tuple[str, str]]:
    """Problems of layers with fewer entries than coefficients."""
    del node
    return too_many("method_settings.frequencies", own.frequencies, layers)
