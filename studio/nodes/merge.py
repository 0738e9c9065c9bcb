"""The Merge node: the adapter is added into the base model's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTER, MODEL, input_, output
from studio.node_settings.merge import MergeSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: MergeSettings, context: CheckContext) -> Iterable[Problem]:
    """Methods that cannot be merged are refused before training."""
    del settings
    methods = context.variants.get("adapter", {})
    for node_type, upstream in context.upstream.values():
        variant = methods.get(str(getattr(upstream, "method", ""))) if node_type == "lora" else None
        if variant is not None and not getattr(variant.payload, "mergeable", True):
            why = getattr(variant.payload, "cannot_merge", "")
            yield context.problem(
                f"adapters of the method {variant.title} cannot be merged{f': {why}' if why else ''}.",
                "adapter",
                hint="Export the adapter itself, or choose another method.",
                code="cannot_merge",
            )


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: MergeSettings
) -> Mapping[str, Any]:
    """Merge shard by shard and compare the result with the adapter."""
    context.starts_libraries()
    from studio.training.merge.make import merge_adapter

    return {"model": merge_adapter(context, inputs["adapter"], settings).to_json()}


NODE = NodeType(
    id="merge",
    title="Merge",
    version=1,
    category="Result",
    purpose="result",
    icon="git-merge",
    help=(
        "Merges the adapter into the base model. The merged model needs no PEFT and runs at the "
        "speed of the base model."
    ),
    stages=("merge",),
    settings=MergeSettings,
    run=run,
    check=check,
    inputs=(input_("adapter", ADAPTER, "Adapter"),),
    outputs=(output("model", MODEL, "Merged model"),),
    summary=lambda s: "same as base" if s.dtype == "base" else s.dtype,
)
