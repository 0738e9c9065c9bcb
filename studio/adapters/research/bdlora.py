"""BD-LoRA (Wang et al., 2025, arXiv:2510.23346): LoRA with one block-diagonal factor, for serving
on several GPUs.

A layer that a server splits by columns gets a block-diagonal B, one that it splits by rows a
block-diagonal A, so that no partial result is exchanged between the GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod, lora_config, own_settings

_BY_ROWS = frozenset(
    {
        "o_proj",
        "out_proj",
        "down_proj",
        "dense",
        "dense_4h_to_h",
        "fc2",
        "c_proj",
        "fc_out",
        "w2",
        "wo",
    }
)
"""Output projections of attention and feed-forward, which servers split by their inputs."""


class BdloraSettings(Settings):
    """Settings of BD-LoRA."""

    blocks: int = setting(
        2,
        "Blocks",
        "Number of diagonal blocks: the number of GPUs that will serve the model. "
        "It must divide the rank and the widths of every adapted layer. 1 is a "
        "plain LoRA.",
        ge=1,
        le=64,
    )


def by_rows(name: str) -> bool:
    """Whether servers split the layer of this name by its inputs, so that its A is block-diagonal."""
    return name.rpartition(".")[2] in _BY_ROWS


def _build(value: AdaptedModelValue) -> Any:
    from peft import BdLoraConfig

    own = own_settings(value, BdloraSettings)
    last = dict.fromkeys(n.rpartition(".")[2] for n in value.target_modules)
    blocks = BdLoraConfig(
        target_modules_bd_a=[n for n in last if by_rows(n)],
        target_modules_bd_b=[n for n in last if not by_rows(n)],
        nblocks=own.blocks,
    )
    return lora_config(value, use_bdlora=blocks)


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    if node.r % own.blocks:
        yield "method_settings.blocks", f"{own.blocks} does not divide the rank {node.r}."
        return
    names = {m.name.rpartition(".")[2] for m in layers}
    for layer in layers:
        last = layer.name.rpartition(".")[2]
        twin = next((n for n in names if n in last and by_rows(n) != by_rows(last)), None)
        if twin is not None:
            yield (
                "method",
                (
                    f"BD-LoRA cannot distinguish {last} from {twin}, which is split along the other "
                    "dimension."
                ),
            )
            return
        split, side = (layer.width_in, "inputs") if by_rows(last) else (layer.width_out, "outputs")
        if split % own.blocks:
            yield (
                "method_settings.blocks",
                f"{own.blocks} does not divide the {split} {side} of {layer.name}.",
            )
            return


VARIANT = Variant(
    kind="adapter",
    id="bdlora",
    title="BD-LoRA",
    order=540,
    settings=BdloraSettings,
    help="LoRA with a block-diagonal A or B, so that a server with several GPUs "
    "needs no communication for it. Smaller than LoRA at the same rank. When "
    "to use it: many adapters served on several GPUs. Wang et al. 2025, "
    "arXiv:2510.23346.",
    payload=LoraMethod(
        _build,
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2510.23346",
        fits=_fits,
        why_not_quantized="PEFT would silently train a plain LoRA there",
    ),
)
