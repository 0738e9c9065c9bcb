"""The Resize node: a trained adapter with a lower rank, by its singular values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTER, input_, output
from studio.node_settings.resize import ResizeSettings
from studio.system.number_text import percent

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: ResizeSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the connected adapter can be resized, and would become smaller."""
    lora = next((s for t, s in context.upstream.values() if t == "lora" and s), None)
    if lora is None:
        return
    if getattr(lora, "method", "") == "dora":
        yield context.problem(
            (
                "a DoRA adapter cannot be resized: it also trains the magnitude of the weights, "
                "which has no rank."
            ),
            "adapter",
            code="cannot_resize",
            hint="Choose LoRA or rsLoRA in the LoRA node.",
        )
    if settings.by == "rank" and settings.r >= getattr(lora, "r", settings.r + 1):
        yield context.problem(
            f"rank {settings.r} is not lower than the adapter's rank {getattr(lora, 'r', 0)}, so "
            "the adapter would not become smaller.",
            "r",
            code="nothing_to_shrink",
            severity="warning",
            hint="Choose a lower rank, or reduce by energy.",
        )


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: ResizeSettings
) -> Mapping[str, Any]:
    """Shrink, compare, describe."""
    context.starts_libraries()
    from studio.training.merge.resize import resize_adapter

    return {"adapter": resize_adapter(context, inputs["adapter"], settings).to_json()}


def _summary(settings: ResizeSettings) -> str:
    return (
        f"{percent(settings.energy)} of the change"
        if settings.by == "energy"
        else f"r {settings.r}"
    )


NODE = NodeType(
    id="resize",
    title="Resize",
    version=1,
    category="Result",
    purpose="result",
    icon="scissors",
    help=(
        "Reduces the rank of a trained adapter by a singular value decomposition and reports how "
        "much is kept."
    ),
    stages=("resize",),
    settings=ResizeSettings,
    run=run,
    check=check,
    inputs=(input_("adapter", ADAPTER, "Adapter"),),
    outputs=(output("adapter", ADAPTER, "Adapter", "The adapter with reduced rank."),),
    summary=_summary,
)
