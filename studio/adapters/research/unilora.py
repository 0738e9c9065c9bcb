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
        "Rank of the change in each layer. 4 is the paper's; more layers and rank share the same "
        "numbers.",
        ge=1,
        le=256,
        log_scale=True,
    )
    length: int = setting(
        8192,
        "Vector length",
        "The number of trained parameters of the model. 256 to 500,000; more "
        "learn more, and quicker.",
        ge=16,
        le=2**24,
        log_scale=True,
    )
    bound: float = setting(
        0.02,
        "Start",
        "The vector begins between minus and plus this.",
        gt=0.0,
        le=1.0,
        log_scale=True,
        advanced=True,
    )
    seed: int = setting(
        42, "Layout seed", "Which entries share a number.", ge=0, le=2**31 - 1, advanced=True
    )
    keep_places: bool = setting(
        False,
        "Save the layout",
        "Off: the file holds the vector alone, and the layout is drawn again from "
        "its seed by NumPy. On: the file is larger than a LoRA's and depends on nobody's random numbers.",
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
    help="One trained vector holds every entry of all A and B; a fixed random layout says which. "
    "When to use it: the smallest adapters, files of some kilobytes. The learning rate is 10 "
    "to 100 times LoRA's. Li et al. 2025, arXiv:2506.00799.",
    payload=LoraMethod(
        _build,
        # At LoRA's rate a model of 135M parameters hardly learned.
        learning_rates=(1e-3, 1e-2, 5e-2),
        research=True,
        quantized=(),
        paper="arXiv:2506.00799",
        uses=frozenset({"dropout"}),
        why_not_quantized="PEFT rounds its scales to integers there, and nothing is learned",
    ),
)
