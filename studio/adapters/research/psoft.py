"""PSOFT (2025, arXiv:2505.11235): a rotation within the base's principal directions.

It trains B (R - I) A with the directions B and A of the base, and is saved as the equivalent LoRA.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from studio.graph.node_type import Variant
from studio.model.layers import LinearModule
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, peft_config


def _build(value: AdaptedModelValue) -> Any:
    return peft_config(
        "PsoftConfig", value, r=value.r, psoft_alpha=value.r, psoft_dropout=value.dropout
    )


def _fits(node: Any, own: Any, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    del own
    for layer in [m for m in layers if min(m.width_in, m.width_out) < node.r][:1]:
        most = min(layer.width_in, layer.width_out)
        yield "r", f"{layer.name} has {most} directions, fewer than the rank {node.r}."


def _save(folder: Path, model: Any) -> None:
    from studio.training.adapter.convert import make_plain_rotations

    make_plain_rotations(folder, model)


VARIANT = Variant(
    kind="adapter",
    id="psoft",
    title="PSOFT",
    order=450,
    help="Rotates the weights within their r principal directions. Saved as a LoRA "
    "of the same rank. When to use it: as an alternative to OFT with far fewer "
    "parameters. arXiv:2505.11235.",
    payload=LoraMethod(
        _build,
        # 5e-4 in PEFT's example.
        learning_rates=(1e-4, 5e-4, 5e-3),
        research=True,
        transposed=False,
        quantized=(),
        paper="arXiv:2505.11235",
        saved_as="LoRA",
        reorders_sums=True,
        uses=frozenset({"r", "dropout"}),
        fits=_fits,
        hooks=Hooks(save=_save),
    ),
)
