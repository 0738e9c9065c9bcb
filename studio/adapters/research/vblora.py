"""VB-LoRA (Li et al., 2024, arXiv:2405.15179): A and B are mixtures of vectors from a shared bank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, misfit, own_settings, peft_config


class VbloraSettings(Settings):
    """Settings of VB-LoRA."""

    rank: int = setting(4, "Rank", "Rank of the composed matrices.", ge=1, le=256)
    vectors: int = setting(
        256, "Vectors", "Number of vectors in the bank.", ge=2, le=65536, log_scale=True
    )
    length: int = setting(
        64,
        "Vector length",
        "It must divide the widths of every adapted layer.",
        ge=1,
        le=4096,
        log_scale=True,
    )
    topk: int = setting(
        2,
        "Vectors per part",
        "Number of vectors that are combined to one part of a matrix.",
        ge=1,
        le=64,
    )


def _build(value: AdaptedModelValue) -> Any:
    own = own_settings(value, VbloraSettings)
    return peft_config(
        "VBLoRAConfig",
        value,
        r=own.rank,
        num_vectors=own.vectors,
        vector_length=own.length,
        topk=own.topk,
        vblora_dropout=value.dropout,
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del node
    return misfit("method_settings.length", own.length, layers)


VARIANT = Variant(
    kind="adapter",
    id="vblora",
    title="VB-LoRA",
    order=330,
    settings=VbloraSettings,
    help="A and B are composed of vectors from one shared bank. When to use it: "
    "very small files. Li et al. 2024, arXiv:2405.15179.",
    payload=LoraMethod(
        _build,
        # 1e-3 in the paper, 5e-4 in PEFT's method comparison.
        learning_rates=(3e-4, 1e-3, 1e-2),
        research=True,
        paper="arXiv:2405.15179",
        uses=frozenset({"dropout"}),
        fits=_fits,
    ),
)
