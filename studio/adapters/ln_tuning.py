"""LN tuning (Zhao et al., 2023, arXiv:2312.11420): trains only the normalization layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.graph.node_type import Variant
from studio.model.layers import norm_layers
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    norms = norm_layers(Path(value.model.path))
    return peft_config("LNTuningConfig", value.model_copy(update={"target_modules": norms}))


VARIANT = Variant(
    kind="adapter",
    id="ln_tuning",
    title="LN tuning",
    order=260,
    help="Trains only the normalization layers of the model; the target modules "
    "have no effect. Requires a float32 base, because the norms are trained in "
    "the precision of the base. When to use it: few rows, or a change of tone. "
    "Zhao et al. 2023, arXiv:2312.11420.",
    payload=LoraMethod(
        _build,
        # 1e-4 in PEFT's method comparison.
        learning_rates=(1e-4, 1e-3, 1e-2),
        quantized=(),
        dtypes=("float32",),
        paper="arXiv:2312.11420",
        uses=frozenset(),
        merge_in_memory=True,
        own_layers=True,
    ),
)
