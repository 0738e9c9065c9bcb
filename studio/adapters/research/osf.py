"""OSF (Nayak et al., 2025, arXiv:2504.07097): trains the minor singular directions of each weight.

The change is U S V minus the initial U₀ S₀ V₀. PEFT saves only U, S and V, and decomposes the base
again when the adapter is loaded. So the adapter is saved as the equivalent plain LoRA: B is [U S,
-U₀ S₀], A is [V; V₀]. The change is a small difference of large numbers: in half precision its
rounding is as large as a small change (measured on SmolLM2: the reloaded logits differed by 2.4),
so it trains in float32 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, own_settings, peft_config


class OsfSettings(Settings):
    """Settings of OSF."""

    kept: float = setting(
        0.9,
        "Frozen directions",
        "Fraction of the singular directions of each weight that stay frozen, "
        "largest first. For a square layer, 0.9 trains about a fifth of its number "
        "of parameters, and 0.5 about as many as it has.",
        ge=0.001,
        le=0.999,
        step=0.05,
    )


def trained_directions(width_in: int, width_out: int, kept: float) -> int:
    """The number of trained singular directions of a weight, rounded as in PEFT."""
    most = min(width_in, width_out)
    return most - int(most * kept)


def _build(value: AdaptedModelValue) -> Any:
    return peft_config("OSFConfig", value, effective_rank=own_settings(value, OsfSettings).kept)


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    for layer in layers:
        most = min(layer.width_in, layer.width_out)
        if int(most * own.kept) < 1:
            yield (
                "method_settings.kept",
                (
                    f"{own.kept:g} of the {most} directions of {layer.name} is less than one, so no direction would "
                    "stay frozen."
                ),
            )
            return


def _pair(layer: Any) -> tuple[Any, Any]:
    """A (2 × directions, in) and B (out, 2 × directions) of the same change."""
    import torch

    part = layer.osf_svd_params["default"]
    u, s, v = (part[n].detach().float() for n in ("U_low", "S_low", "V_low"))
    first = (layer._osf_U_low_init, layer._osf_S_low_init, layer._osf_V_low_init)
    u_first, s_first, v_first = (kept["default"].float() for kept in first)
    return torch.cat([v, v_first]), torch.cat([u * s, -u_first * s_first], dim=1)


def _save(folder: Path, model: Any) -> None:
    from peft.tuners.osf.layer import OSFLayer

    from studio.training.adapter.convert import as_plain_lora

    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, OSFLayer))
    as_plain_lora(folder, {n: _pair(layer) for n, layer in layers}, ".osf_svd_params.")


VARIANT = Variant(
    kind="adapter",
    id="osf",
    title="OSF",
    order=520,
    settings=OsfSettings,
    help="Trains the smallest singular directions of each weight and projects the "
    "gradient away from the largest, which stay frozen. Saved as a plain LoRA "
    "of twice the trained directions, which is large. Requires a float32 base. "
    "When to use it: several tasks in sequence without forgetting the first. "
    "Nayak et al. 2025, arXiv:2504.07097.",
    payload=LoraMethod(
        _build,
        # 5e-6 to 3e-4 in PEFT's documentation.
        learning_rates=(5e-6, 5e-5, 5e-4),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2504.07097",
        uses=frozenset(),
        fits=_fits,
        dtypes=("float32",),
        saved_as="LoRA of twice the trained directions",
        hooks=Hooks(save=_save),
        why_not_quantized="the singular directions of quantized weights cannot be computed",
    ),
)
