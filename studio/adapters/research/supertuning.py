"""Super-Tuning (2026, arXiv:2607.09287): trains the largest entries of each weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, own_settings, peft_config


class SupertuningSettings(Settings):
    """Which entries are trained, and whether a LoRA is added."""

    percent: float = setting(
        1.0,
        "Trained elements",
        "Percentage of the elements of each weight that is trained. Typical values "
        "are 0.1 to 5; the paper uses 1. The file also stores their positions.",
        unit="%",
        gt=0.0,
        le=50.0,
        log_scale=True,
    )
    which: Literal["largest", "smallest"] = setting(
        "largest",
        "Elements",
        "Which elements of a weight are trained. The better choice depends on the "
        "model and the task.",
        choice_labels={"largest": "Largest", "smallest": "Smallest"},
        advanced=True,
    )
    with_lora: bool = setting(
        False,
        "Add a LoRA",
        "Also train a LoRA with the rank, alpha and dropout of the node (Supra in "
        "the paper). If off, rank, alpha and dropout have no effect.",
    )


def sparsity(percent: float) -> float:
    """The share of entries that are not trained, as defined by PEFT."""
    return 1.0 - percent / 100.0


def trained_entries(width_in: int, width_out: int, percent: float) -> int:
    """The number of trained entries of a weight, rounded as in PEFT."""
    return int(width_in * width_out * (1 - sparsity(percent)))


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, SupertuningSettings)
    lora = {"r": value.r, "lora_alpha": float(value.alpha), "lora_dropout": value.dropout}
    return peft_config(
        "SupertuningConfig",
        value,
        sparsity=sparsity(own.percent),
        select_top=own.which == "largest",
        **(lora if own.with_lora else {}),
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    for layer in layers:
        if trained_entries(layer.width_in, layer.width_out, own.percent) < 1:
            yield (
                "method_settings.percent",
                f"{own.percent:g} % of the {layer.parameters} elements of {layer.name} is less than one.",
            )
            return


VARIANT = Variant(
    kind="adapter",
    id="supertuning",
    title="Super-Tuning",
    order=530,
    settings=SupertuningSettings,
    help="Trains only the largest elements of each weight, one in a hundred. When "
    "to use it: a targeted change of few parameters. During training, each "
    "adapted layer holds a modified copy of its weight. arXiv:2607.09287.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's example.
        learning_rates=(1e-5, 1e-4, 1e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2607.09287",
        uses=frozenset({"r", "alpha", "dropout"}),
        fits=_fits,
        why_not_quantized="single elements of quantized weights cannot be changed",
    ),
)
