"""Supervised fine-tuning: the model learns to write the answer of each row."""

from __future__ import annotations

from typing import Any

from studio.graph.node_type import Variant
from studio.variants.objective import PLAIN_LOSS, LossOptions, Objective


def _choose_head(model: Any, batch: Any) -> Any:
    from studio.training.loop.sft import choose_head

    return choose_head(model, batch)


def _summed_loss(model: Any, batch: Any, head: Any, options: LossOptions = PLAIN_LOSS) -> Any:
    from studio.training.loop.sft import summed_loss

    return summed_loss(model, batch, head, options)


VARIANT = Variant(
    kind="objective",
    id="sft",
    title="Supervised fine-tuning",
    order=10,
    help="The model learns to write the answers of your rows, token by token.",
    payload=Objective(_choose_head, _summed_loss),
)
