"""VeLoRA (Miles et al., 2024, arXiv:2405.17991): LoRA that stores compressed inputs for the backward pass."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config, own_settings


class VeloraSettings(Settings):
    """The compression of the inputs."""

    groups: int = setting(
        64,
        "Groups",
        "Number of groups to which an input is compressed. Fewer groups need less "
        "memory and give coarser gradients.",
        ge=1,
        le=4096,
        log_scale=True,
    )
    scale: float = setting(
        1.0,
        "Scale",
        "Scaling of the reconstructed inputs.",
        gt=0.0,
        le=100.0,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft import VeloraConfig

    own = own_settings(value, VeloraSettings)
    return lora_config(value, velora_config=VeloraConfig(num_groups=own.groups, scale=own.scale))


VARIANT = Variant(
    kind="adapter",
    id="velora",
    title="VeLoRA",
    order=300,
    settings=VeloraSettings,
    help="LoRA that stores compressed inputs for the backward pass. When to use it: "
    "if activations do not fit into memory. Miles et al. 2024, "
    "arXiv:2405.17991.",
    payload=LoraMethod(_build, research=True, quantized=(), paper="arXiv:2405.17991"),
)
