"""VeRA (Kopiczko et al., 2024, arXiv:2310.11454): shared random A and B, and two trained vectors per layer."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class VeraSettings(Settings):
    """Settings of VeRA."""

    width: int = setting(
        256,
        "Width",
        "Rank of the shared random matrices. Typical values are 256 to 1024; each "
        "layer trains one value per rank.",
        ge=1,
        le=8192,
        log_scale=True,
    )
    d_initial: float = setting(
        0.1,
        "Initial d",
        "Initial value of the inner vector. Typical values are 1e-7 to 1; 0.1 is a good default.",
        gt=0.0,
        le=1.0,
        log_scale=True,
        advanced=True,
    )
    seed: int = setting(
        0,
        "Projection seed",
        "Seed of the shared random matrices.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, VeraSettings)
    return peft_config(
        "VeraConfig",
        value,
        r=own.width,
        vera_dropout=value.dropout,
        d_initial=own.d_initial,
        projection_prng_key=own.seed,
        save_projection=True,
    )


VARIANT = Variant(
    kind="adapter",
    id="vera",
    title="VeRA",
    order=210,
    settings=VeraSettings,
    help="All layers share the same random A and B; only two vectors per layer are "
    "trained. When to use it: many small adapters on one base. Kopiczko et al. "
    "2024, arXiv:2310.11454.",
    payload=LoraMethod(
        _build,
        # 4e-3 to 2e-2 in the paper, 1e-3 in PEFT's method comparison.
        learning_rates=(5e-4, 2e-3, 2e-2),
        paper="arXiv:2310.11454",
        uses=frozenset({"dropout"}),
    ),
)
