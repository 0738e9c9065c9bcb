"""LoRA (Hu et al., 2021, arXiv:2106.09685): W x + (alpha / r) B A x."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config, own_settings


class LoraOwnSettings(Settings):
    """The initialization of A and B."""

    init: Literal["default", "gaussian", "orthogonal"] = setting(
        "default",
        "Initialization",
        "Initialization of A. B is initialized to zero, except with Orthogonal. "
        "Default is nearly always a good choice. Orthogonal requires an even rank "
        "and learns slightly faster at low ranks.",
        advanced=True,
        choice_labels={
            "default": "Default (uniform)",
            "gaussian": "Gaussian",
            "orthogonal": "Orthogonal",
        },
    )


def _build(value: AdaptedModelValue) -> Any:
    init = own_settings(value, LoraOwnSettings).init
    return lora_config(value, init_lora_weights=True if init == "default" else init)


def _fits(
    node: Any, own: LoraOwnSettings, layers: Sequence[LinearModule]
) -> Iterable[tuple[str, str]]:
    del node
    embedding = next((m.name for m in layers if m.end == "embedding"), None)
    if own.init == "orthogonal" and embedding is not None:
        yield (
            "method_settings.init",
            f"the embedding {embedding} does not support the orthogonal initialization.",
        )
    expert = next((m.name for m in layers if m.kind == "expert"), None)
    if own.init == "orthogonal" and expert is not None:
        yield (
            "method_settings.init",
            (
                f"the experts of a mixture-of-experts model, such as {expert}, do not support "
                "the orthogonal initialization."
            ),
        )


VARIANT = Variant(
    kind="adapter",
    id="lora",
    title="LoRA",
    order=10,
    settings=LoraOwnSettings,
    help="The standard method: two small matrices are added to each target module. "
    "When to use it: most tasks; a good default. Hu et al. 2021, "
    "arXiv:2106.09685.",
    payload=LoraMethod(
        _build,
        # 2e-4 for 7B in the QLoRA paper; arXiv:2602.04998 sweeps 1e-5 to 6e-3.
        learning_rates=(2e-5, 2e-4, 2e-3),
        experts=True,
        ends=True,
        fits=_fits,
        paper="arXiv:2106.09685",
    ),
)
