"""Uni-LoRA (Li et al., 2025, arXiv:2506.00799): all entries of all A and B are taken from one trained vector."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class UniloraSettings(Settings):
    """The trained vector, and how its entries are assigned to the layers."""

    rank: int = setting(
        4,
        "Rank",
        "Rank of the change in each layer. The paper uses 4. With more layers or a "
        "higher rank, more elements share the same values.",
        ge=1,
        le=256,
        log_scale=True,
    )
    length: int = setting(
        8192,
        "Vector length",
        "Number of trained parameters of the model. Typical values are 256 to "
        "500,000; longer vectors learn more, and faster.",
        ge=16,
        le=2**24,
        log_scale=True,
    )
    bound: float = setting(
        0.02,
        "Initial bound",
        "The vector is initialized uniformly between minus and plus this value.",
        gt=0.0,
        le=1.0,
        log_scale=True,
        advanced=True,
    )
    seed: int = setting(
        42,
        "Layout seed",
        "Seed for assigning the elements to the values of the vector.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )
    keep_places: bool = setting(
        False,
        "Save the layout",
        "If off, the file contains only the vector, and the layout is generated "
        "again from its seed by NumPy. If on, the file is larger than that of a "
        "LoRA and does not depend on a random number generator.",
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, UniloraSettings)
    return peft_config(
        "UniLoraConfig",
        value,
        r=own.rank,
        theta_d_length=own.length,
        proj_seed=own.seed,
        init_theta_d_bound=own.bound,
        unilora_dropout=value.dropout,
        save_indices=own.keep_places,
    )


VARIANT = Variant(
    kind="adapter",
    id="unilora",
    title="Uni-LoRA",
    order=570,
    settings=UniloraSettings,
    help="One trained vector contains all elements of all A and B; a fixed random "
    "layout assigns them. When to use it: the smallest adapters, with files of "
    "a few kilobytes. The learning rate is 10 to 100 times that of LoRA. Li et "
    "al. 2025, arXiv:2506.00799.",
    payload=LoraMethod(
        _build,
        # At LoRA's rate a model of 135M parameters hardly learned.
        learning_rates=(1e-3, 1e-2, 5e-2),
        research=True,
        quantized=(),
        paper="arXiv:2506.00799",
        uses=frozenset({"dropout"}),
        why_not_quantized="PEFT rounds its scales to integers there, so that nothing is learned",
    ),
)
