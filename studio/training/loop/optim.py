"""Optimizer and learning-rate scheduler of a training.

Only trainable parameters are passed to the optimizer. SGD and LARS in 8 bits are not offered: they
do not update bfloat16 weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from studio.node_settings.schedules import rate_factor
from studio.node_settings.train import TrainSettings
from studio.training.loop.muon import MuonAdamW

LION_BETA2, OTHERS_BETA2 = 0.99, 0.999
Groups = list[dict[str, Any]]


def build_optimizer(
    model: Any, settings: TrainSettings, rate: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The chosen optimizer for the trainable parameters."""
    return _BUILDERS[settings.optimizer](parameter_groups(model, settings, rate), settings)


def parameter_groups(
    model: Any, settings: TrainSettings, rate: Callable[[str], float] = lambda name: 1.0
) -> Groups:
    """The trainable parameters by learning rate and weight decay; vectors have no weight decay.

    ``rate(name)`` is the factor of a parameter's learning rate.
    """
    muon = settings.optimizer == "muon"
    tables = _tables(model) if muon else set()
    groups: dict[tuple[float, bool, bool], list[torch.nn.Parameter]] = {}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for name, parameter in sorted(trained, key=lambda item: item[1].dim() < 2):
        key = (rate(name), parameter.dim() >= 2, id(parameter) in tables)
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": found,
            "weight_decay": settings.weight_decay if matrices else 0.0,
            "lr": settings.learning_rate * factor,
            **({"table": table} if muon else {}),
        }
        for (factor, matrices, table), found in groups.items()
    ]


def _tables(model: Any) -> set[int]:
    """Embedding and head: tables with a row for each token, to which Muon does not apply."""
    found = (model.get_input_embeddings(), model.get_output_embeddings())
    return {id(p) for module in found if module is not None for p in module.parameters()}


def build_schedule(optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int) -> Any:
    """The scheduler over ``steps`` optimizer steps, with warmup."""

    def factor(step: int) -> float:
        return rate_factor(settings, step, steps)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _on_gpu(groups: Groups) -> bool:
    return all(p.device.type == "cuda" for g in groups for p in g["params"])


def _betas(settings: TrainSettings, beta2: float = OTHERS_BETA2) -> tuple[float, float]:
    return settings.beta1, settings.beta2 or beta2


def _adamw(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    # Not the fused kernel: it is 1 % faster and rounds differently, so that bfloat16 losses deviate
    # from those of plain PEFT within a few steps. Without it they are bit-identical.
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=_betas(settings), eps=settings.epsilon
    )


def _adamw_fused(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    """The fused AdamW if all weights are on a GPU, otherwise the default one."""
    if not _on_gpu(groups):
        return _adamw(groups, settings)
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=_betas(settings), eps=settings.epsilon, fused=True
    )


def _adamw_of_bitsandbytes(
    bits: int, paged: bool = False
) -> Callable[[Groups, Any], torch.optim.Optimizer]:
    """AdamW with states of 8 or 32 bits; paging is only available on a GPU."""

    def build(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
        import bitsandbytes as bnb

        kind = bnb.optim.AdamW8bit if bits == 8 else bnb.optim.AdamW32bit
        made: torch.optim.Optimizer = kind(
            groups,
            lr=settings.learning_rate,
            betas=_betas(settings),
            eps=settings.epsilon,
            is_paged=paged and _on_gpu(groups),
        )
        return made

    return build


def _lion(bits: int) -> Callable[[Groups, Any], torch.optim.Optimizer]:
    """Lion (Chen et al., 2023, arXiv:2302.06675): the update is the sign of the momentum."""

    def build(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
        import bitsandbytes as bnb

        betas = _betas(settings, LION_BETA2)
        kind = bnb.optim.Lion8bit if bits == 8 else bnb.optim.Lion32bit
        made: torch.optim.Optimizer = kind(groups, lr=settings.learning_rate, betas=betas)
        return made

    return build


def _ademamix(bits: int) -> Callable[[Groups, Any], torch.optim.Optimizer]:
    """AdEMAMix (Pagliardini et al., 2024, arXiv:2409.03137): a fast and a slow average of the gradients."""

    def build(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
        import bitsandbytes as bnb

        # Not AdEMAMix32bit: it allocates states of half the size and then fails (bitsandbytes 0.50).
        made: torch.optim.Optimizer = bnb.optim.AdEMAMix(
            groups,
            optim_bits=bits,
            lr=settings.learning_rate,
            betas=(*_betas(settings), settings.beta3),
            alpha=settings.ademamix_alpha,
            eps=settings.epsilon,
        )
        return made

    return build


def _adafactor(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    """Adafactor (Shazeer and Stern, 2018, arXiv:1804.04235) with the configured learning rate."""
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=settings.learning_rate, scale_parameter=False, relative_step=False)


def _muon(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    return MuonAdamW(
        groups,
        lr=settings.learning_rate,
        betas=_betas(settings),
        eps=settings.epsilon,
        momentum=settings.muon_momentum,
    )


def _sgd(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


_BUILDERS: dict[str, Callable[[Groups, Any], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_fused": _adamw_fused,
    "adamw_8bit": _adamw_of_bitsandbytes(8),
    "paged_adamw": _adamw_of_bitsandbytes(32, paged=True),
    "paged_adamw_8bit": _adamw_of_bitsandbytes(8, paged=True),
    "adafactor": _adafactor,
    "lion": _lion(32),
    "lion_8bit": _lion(8),
    "ademamix": _ademamix(32),
    "ademamix_8bit": _ademamix(8),
    "muon": _muon,
    "sgd": _sgd,
}
