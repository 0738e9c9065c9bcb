"""CorDA (Yang et al., 2024, arXiv:2406.05223): singular directions of the base weighted by the
covariance of the data.

The decomposition is implemented here, because PEFT's preprocessing takes one row at a time,
includes padding, and needs another package.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

from studio.adapters.calibration import inputs_of
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, TrainingFacts, lora_config, own_settings

_DAMPING, _LARGEST_ERROR = 0.01, 0.05


class CordaSettings(Settings):
    """Which directions are trained."""

    mode: Literal["ipm", "kpm"] = setting(
        "ipm",
        "Mode",
        "Preview trains the directions that are most important for your data and "
        "learns fastest. Preserve trains the least important ones and forgets "
        "least.",
        choice_labels={"ipm": "Preview (instructions)", "kpm": "Preserve (knowledge)"},
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft.tuners.lora.config import CordaConfig

    corda = CordaConfig(corda_method=own_settings(value, CordaSettings).mode)
    return lora_config(value, init_lora_weights="corda", corda_config=corda)


def _prepare(base: Any, config: Any, facts: TrainingFacts) -> None:
    """Give each chosen layer the part of W C from which its A and B are initialized; C is the
    covariance of its inputs over the first rows, (in, in).
    """
    import torch
    from peft.tuners.lora.model import LoraModel
    from peft.utils.other import get_pattern_key
    from transformers.pytorch_utils import Conv1D

    layers = {
        name: layer
        for name, layer in base.named_modules()
        if isinstance(layer, (torch.nn.Linear, Conv1D))
        and LoraModel._check_target_module_exists(config, name)
    }
    with torch.no_grad():
        covariances = _covariances(base, layers, facts)
        for name, layer in layers.items():
            facts.check()
            rank = config.rank_pattern.get(
                get_pattern_key(config.rank_pattern.keys(), name), config.r
            )
            weight = layer.weight.float().T if isinstance(layer, Conv1D) else layer.weight.float()
            layer.eigens = _parts(
                weight, covariances.pop(name), rank, config.corda_config.corda_method
            )


def _covariances(base: Any, layers: dict[str, Any], facts: TrainingFacts) -> dict[str, Any]:
    """Input covariance of every layer without padding; each batch is scaled to its largest input."""
    found: dict[str, Any] = {}
    mask: list[Any] = []

    def watch(name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Any) -> None:
            del layer, output
            x = inputs[0].detach().float()[mask[0]]  # (tokens, in)
            x = x / x.abs().max().clamp_min(1e-12)
            found[name] = found.get(name, 0) + x.T @ x

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    training = base.training
    base.eval()
    try:
        for batch in facts.batches:
            facts.check()
            inputs = inputs_of(batch, base.device)
            mask[:] = [inputs["attention_mask"].bool()]
            base(**inputs, use_cache=False)
    finally:
        base.train(training)
        for handle in handles:
            handle.remove()
    return found


def _parts(weight: Any, covariance: Any, rank: int, mode: str) -> Any:
    """U (out, r), S (r) and V (in, r) with W ≈ U S Vᵀ over the chosen directions of W C."""
    import torch

    eye = torch.eye(len(covariance), device=covariance.device)
    damping = _DAMPING
    while True:
        damped = covariance + damping * covariance.diagonal().mean() * eye
        inverse = torch.linalg.inv(damped)
        if float(torch.dist(damped @ inverse, eye)) < _LARGEST_ERROR:
            break
        damping *= 2
    u, s, vh = torch.linalg.svd(weight @ damped, full_matrices=False)
    v = (vh @ inverse).T
    part = slice(0, rank) if mode == "ipm" else slice(len(s) - rank, len(s))
    return SimpleNamespace(
        U_WC=u[:, part].contiguous(), S_WC=s[part].clone(), V_WC=v[:, part].contiguous()
    )


VARIANT = Variant(
    kind="adapter",
    id="corda",
    title="CorDA",
    order=80,
    settings=CordaSettings,
    help="LoRA initialized with directions of the base weights that are chosen with "
    "your data. When to use it: to learn faster than LoRA (preview), or to "
    "forget less (preserve). Needs memory for one covariance matrix per layer. "
    "Saved as a plain LoRA of twice the rank. Yang et al. 2024, "
    "arXiv:2406.05223.",
    payload=LoraMethod(
        _build,
        # 2e-5 in PEFT's example.
        learning_rates=(5e-6, 5e-5, 5e-4),
        quantized=(),
        starts_from_base=True,
        paper="arXiv:2406.05223",
        hooks=Hooks(prepare=_prepare),
        why_not_quantized="it is initialized from directions of the base weights, which quantization "
        "obscures",
    ),
)
