"""AdaLoRA (Zhang et al., 2023, arXiv:2303.10512): allocates the rank to the layers that need it.

The change is P Λ Q with almost orthogonal P and Q. During training, the least important entries of
Λ are pruned, from the initial rank down to the target, on a schedule that depends on the number of
steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import (
    Hooks,
    LoraMethod,
    State,
    TrainingFacts,
    own_settings,
    peft_config,
)

_FEWEST = 3
"""PEFT 0.21 fails with one step, which gives it no importance scores."""
_WARM, _FINAL = 0.1, 0.3
"""Shares of the steps before the first entry is pruned, and after the last one."""


class AdaloraSettings(Settings):
    """The initial rank, and the orthogonality regularization."""

    target_r: int = setting(
        8,
        "Target rank",
        "Average rank of the layers at the end of training. Training starts with "
        "Rank (r). Typical values are half to two thirds of r.",
        ge=1,
        le=1024,
        log_scale=True,
    )
    delta_t: int = setting(
        1,
        "Reallocate every",
        "Number of steps between reallocations of the ranks. In long runs 10 is sufficient.",
        unit="steps",
        ge=1,
        le=10_000,
        advanced=True,
    )
    orthogonality: float = setting(
        0.5,
        "Orthogonality",
        "Weight of the regularization that keeps P and Q orthogonal. Typical "
        "values are 0.1 to 0.5; 0 disables it.",
        ge=0.0,
        le=10.0,
        step=0.1,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, AdaloraSettings)
    return peft_config(
        "AdaLoraConfig",
        value,
        init_r=value.r,
        target_r=own.target_r,
        deltaT=own.delta_t,
        lora_alpha=value.alpha,
        lora_dropout=value.dropout,
        bias=value.bias,
        orth_reg_weight=own.orthogonality,
        total_step=1000,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del layers
    if own.target_r >= node.r:
        yield (
            "method_settings.target_r",
            (f"the target rank {own.target_r} is not lower than the initial rank {node.r}."),
        )


def _fit(config: Any, facts: TrainingFacts) -> None:
    """The schedule: no pruning for a tenth of the steps, then down to the target, then training continues."""
    if facts.steps < _FEWEST:
        raise StudioError(
            "AdaLoRA reallocates ranks between the steps of a training, and this "
            f"training has too few ({facts.steps}).",
            title="Too few steps for AdaLoRA",
            code="too_few_steps",
            hint=f"Train for {_FEWEST} steps or more, or choose LoRA on the LoRA node.",
        )
    config.total_step = max(1, facts.steps)
    config.tinit = int(_WARM * facts.steps)
    config.tfinal = int(_FINAL * facts.steps)


def _penalty(model: Any) -> Any:
    """Mean distance of P Pᵀ and Qᵀ Q from the identity (equation 4 of the paper)."""
    import torch

    weight = model.peft_config["default"].orth_reg_weight
    terms = []
    for name, p in model.named_parameters() if weight else ():
        if ".lora_A." in name or ".lora_B." in name:
            gram = p @ p.T if ".lora_A." in name else p.T @ p
            terms.append(torch.linalg.norm(gram - torch.eye(len(gram), device=gram.device)))
    return weight * torch.stack(terms).mean() if terms else None


def _freeze(name: str) -> bool:
    """Freeze the divisor of the scale: on a half precision base PEFT 0.21 would train it and not save it."""
    return ".ranknum." in name


def _after_step(model: Any, step: int) -> None:
    model.base_model.update_and_allocate(step)


_KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def _state(model: Any) -> State:
    """The importance of every entry so far, and which ranks are pruned."""
    allocator = model.base_model.rankallocator
    tensors = {f"{k}/{n}": t for k in _KEPT for n, t in getattr(allocator, k).items()}
    return tensors, {"rank_pattern": model.peft_config["default"].rank_pattern}


def _restore(model: Any, tensors: dict[str, Any], values: dict[str, Any]) -> None:
    allocator = model.base_model.rankallocator
    device = next(model.parameters()).device
    allocator.reset_ipt()
    for name, tensor in tensors.items():
        kind, _, parameter = name.partition("/")
        getattr(allocator, kind)[parameter] = tensor.to(device)
    model.peft_config["default"].rank_pattern = values.get("rank_pattern")


def _save(folder: Path, model: Any) -> None:
    from studio.training.adapter.convert import make_plain_ranks

    del model
    make_plain_ranks(folder)


VARIANT = Variant(
    kind="adapter",
    id="adalora",
    title="AdaLoRA",
    order=45,
    settings=AdaloraSettings,
    help="Starts with the same rank in all layers and reallocates it to the layers "
    "that need it. When to use it: long runs with a small budget of "
    "parameters. Saved as a LoRA with a rank for each layer. Zhang et al. "
    "2023, arXiv:2303.10512.",
    payload=LoraMethod(
        _build,
        # 5e-4 to 2.2e-3 in the paper; at 2e-4 it hardly learns.
        learning_rates=(5e-4, 1e-3, 1e-2),
        quantized=("nf4",),
        paper="arXiv:2303.10512",
        fits=_fits,
        saved_as="LoRA with a rank for each layer",
        reorders_sums=True,
        uses=frozenset({"r", "alpha", "dropout", "bias"}),
        hooks=Hooks(
            fit=_fit,
            penalty=_penalty,
            after_step=_after_step,
            state=_state,
            restore=_restore,
            save=_save,
            freeze=_freeze,
        ),
    ),
)
