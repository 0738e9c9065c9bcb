"""OSF (2025, arXiv:2504.07097): trains the weakest singular directions of each weight, all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.adapters._method import LoraMethod, own_settings, peft_config
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.layers import LinearModule
from studio.values import AdaptedModelValue


class OsfSettings(Settings):
    """What is particular to OSF."""

    kept: float = setting(
        0.9, "Kept directions", "Share of each weight's singular directions that stay as they are, the "
        "strongest first. 0.9 trains about a fifth as many numbers as a square layer has, 0.5 about as many "
        "as it has.", ge=0.001, le=0.999, step=0.05,
    )  # fmt: skip


def trained_directions(width_in: int, width_out: int, kept: float) -> int:
    """How many singular directions of such a weight are trained; as PEFT rounds them."""
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
                f"{own.kept:g} of the {most} directions of {layer.name} is none: nothing would be kept.",
            )
            return


VARIANT = Variant(
    kind="adapter", id="osf", title="OSF", order=520, settings=OsfSettings,
    help="Trains the weakest singular directions of each weight as a whole and projects the gradient away "
    "from the strongest, which stay. Large: loading it decomposes every chosen weight again. "
    "Experimental. When to use it: one task after another without forgetting the first. Nayak et al. "
    "2025, arXiv:2504.07097.",
    payload=LoraMethod(
        _build, transposed=False, quantized=(), merge_whole=True, paper="arXiv:2504.07097",
        uses=frozenset(), fits=_fits,
        why_not_quantized="the singular directions of quantized weights cannot be computed",
    ),
)  # fmt: skip
