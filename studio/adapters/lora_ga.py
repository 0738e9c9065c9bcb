"""LoRA-GA (Wang et al., 2024, arXiv:2407.05000): A and B are initialized from the first gradient."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, TrainingFacts, lora_config, own_settings

_BATCHES = 8


class LoraGaSettings(Settings):
    """How A and B are computed from the gradient."""

    scale: Literal["stable", "weight_svd", "gd_scale", "unit"] = setting(
        "stable",
        "Scale",
        "Scaling of the initial A and B. Stable is a good default.",
        advanced=True,
        choice_labels={
            "stable": "Stable",
            "weight_svd": "Weight SVD",
            "gd_scale": "Gradient step",
            "unit": "Unit",
        },
    )
    gamma: int = setting(
        16,
        "Gamma",
        "Used by Stable only. Larger values give smaller initial matrices.",
        ge=1,
        le=1024,
        advanced=True,
        shown_if={"scale": "stable"},
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft import LoraGAConfig

    own = own_settings(value, LoraGaSettings)
    start = LoraGAConfig(scale=own.scale, stable_gamma=own.gamma)
    return lora_config(value, init_lora_weights="lora_ga", lora_ga_config=start)


def _prepare(base: Any, config: Any, facts: TrainingFacts) -> None:
    """Gradients of the chosen weights on the first batches."""
    from peft import preprocess_loraga

    def backward() -> None:
        for _, batch in zip(range(_BATCHES), facts.batches, strict=False):
            facts.check()
            facts.loss(base, batch).backward()

    preprocess_loraga(base, config, backward)


VARIANT = Variant(
    kind="adapter",
    id="lora_ga",
    title="LoRA-GA",
    order=90,
    settings=LoraGaSettings,
    help="LoRA initialized along the gradient of the first rows, so that its first "
    "steps approximate full fine-tuning. When to use it: short runs. Needs "
    "memory for the gradients before training. Saved as a plain LoRA of twice "
    "the rank. Wang et al. 2024, arXiv:2407.05000.",
    payload=LoraMethod(
        _build,
        # 2e-5 in the paper, 3e-5 in PEFT's example.
        learning_rates=(5e-6, 5e-5, 5e-4),
        quantized=(),
        starts_from_base=True,
        paper="arXiv:2407.05000",
        hooks=Hooks(prepare=_prepare),
        why_not_quantized="it needs gradients of the base weights",
    ),
)
