"""MonteCLoRA (2024, arXiv:2411.04358): A is sampled around its mean at each training step.

The spread is trained too. PEFT samples in advance into a buffer that checkpoints do not contain and
that gradient checkpointing would read at another position. Sampling on demand gives a resumed
training and a recomputed block the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, TrainingFacts, lora_config, own_settings


class MontecloraSettings(Settings):
    """The spread of A and its regularization."""

    samples: int = setting(
        4,
        "Samples",
        "Number of samples that are averaged to one A. Typical values are 2 to 16. "
        "More samples are smoother and slower, and each needs memory for a copy of "
        "A.",
        ge=2,
        le=64,
    )
    spread: float = setting(
        3e-4,
        "Spread",
        "Scaling of the sampled noise. Typical values are 1e-5 to 1e-2; the "
        "elements of A are of the order of 1e-2.",
        gt=0.0,
        le=1.0,
        log_scale=True,
    )
    prior: float = setting(
        1e-5,
        "Prior weight",
        "Weight of the regularization that keeps the spread above zero. Typical "
        "values are 1e-6 to 1e-3; 0 disables it.",
        ge=0.0,
        le=1.0,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft import MontecloraConfig

    own = own_settings(value, MontecloraSettings)
    draws = MontecloraConfig(
        num_samples=own.samples,
        sample_scaler=own.spread,
        kl_loss_weight=own.prior,
        buffer_size=1,
    )
    return lora_config(value, monteclora_config=draws)


def _samplers(model: Any) -> Iterator[Any]:
    from peft.tuners.lora.monteclora import MontecloraSampler

    return (m for m in model.modules() if isinstance(m, MontecloraSampler))


def _draw_when_needed(model: Any) -> None:
    """Discard the samples drawn while the adapter was built: a resumed run would draw them twice."""
    for found in _samplers(model):
        found.sampler.index = found.sampler.buffer_size


def _initialise(model: Any, config: Any, facts: TrainingFacts) -> None:
    del config, facts
    _draw_when_needed(model)


def _restore(model: Any, tensors: dict[str, Any], values: dict[str, Any]) -> None:
    del tensors, values
    _draw_when_needed(model)


def _penalty(model: Any) -> Any:
    """The divergence of the trained distributions from their priors, as computed by PEFT."""
    found = model.base_model._get_monteclora_loss()
    return found if hasattr(found, "detach") else None


def _save(folder: Path, model: Any) -> None:
    from studio.training.adapter.convert import without_samplers

    del model
    without_samplers(folder)


VARIANT = Variant(
    kind="adapter",
    id="monteclora",
    title="MonteCLoRA",
    order=550,
    settings=MontecloraSettings,
    help="LoRA that samples A around its mean at each training step, with a trained "
    "spread. Saved as a plain LoRA. When to use it: few or noisy rows, for "
    "which LoRA is sensitive to the learning rate. arXiv:2411.04358.",
    payload=LoraMethod(
        _build,
        # 2e-4 in PEFT's example.
        learning_rates=(2e-5, 2e-4, 2e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2411.04358",
        saved_as="LoRA",
        why_not_quantized="PEFT would silently train a plain LoRA there",
        hooks=Hooks(initialise=_initialise, restore=_restore, penalty=_penalty, save=_save),
    ),
)
