"""RoAd (Liao and Monz, 2024, arXiv:2409.00119): rotates and scales pairs of outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, misfit, own_settings, peft_config


class RoadSettings(Settings):
    """Settings of RoAd."""

    variant: Literal["road_1", "road_2", "road_4"] = setting(
        "road_1",
        "Variant",
        "Number of trained values per pair of outputs: 1, 2 or 4.",
        choice_labels={"road_1": "RoAd 1", "road_2": "RoAd 2", "road_4": "RoAd 4"},
    )
    group_size: int = setting(
        64,
        "Group size",
        "An even number that divides the output width of every adapted layer. It "
        "only determines which outputs form a pair.",
        ge=2,
        le=4096,
        advanced=True,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, RoadSettings)
    return peft_config("RoadConfig", value, variant=own.variant, group_size=own.group_size)


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return misfit("method_settings.group_size", own.group_size, layers, "out")


VARIANT = Variant(
    kind="adapter",
    id="road",
    title="RoAd",
    order=400,
    settings=RoadSettings,
    help="Rotates and scales pairs of outputs. Very few parameters. When to use it: "
    "many small adapters on one base. Liao and Monz 2024, arXiv:2409.00119.",
    payload=LoraMethod(
        _build,
        # 1e-3 in PEFT's method comparison and example.
        learning_rates=(3e-4, 1e-3, 1e-2),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2409.00119",
        uses=frozenset(),
        fits=_fits,
    ),
)
