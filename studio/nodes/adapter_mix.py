"""The Adapter Mix node: one adapter from several of the same base, by weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTER, DATASET, input_, output
from studio.node_settings.adapter_mix import PORTS, AdapterMixSettings
from studio.node_settings.base_model import BaseModelSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: AdapterMixSettings, context: CheckContext) -> Iterable[Problem]:
    """Weights without an effect, different bases, adapters that no LoRA can express, and rows that are missing."""
    ports = [p for p in PORTS if p in context.inputs]
    chosen = settings.choose == "own"
    if ports and chosen and not any(getattr(settings, f"weight_{p}") for p in ports):
        yield context.problem(
            "all weights are 0, so the result would have no effect.",
            f"weight_{ports[0]}",
            hint="Set the weight of at least one adapter to another value.",
            code="no_mix_weight",
        )
    if not chosen and "dataset" not in context.inputs:
        yield context.problem(
            "the weights with the lowest loss are wanted, but no validation rows are connected.",
            "choose",
            hint="Connect a dataset to Validation rows, or use the weights above.",
            code="mix_without_rows",
        )
    bases = sorted(
        {s.model for _, s in context.upstream.values() if isinstance(s, BaseModelSettings)}
    )
    if len(bases) > 1:
        yield context.problem(
            f"the adapters were trained on different base models: {bases[0]} and {bases[1]}.",
            "a",
            hint="Only adapters of one base model can be mixed.",
            code="other_mix_base",
        )
    if any(
        t == "lora" and getattr(s, "method", "") == "alora" for t, s in context.upstream.values()
    ):
        yield context.problem(
            "an activated LoRA cannot be mixed: it has no effect on the tokens before its invocation.",
            "a",
            hint="Choose another method in the LoRA node.",
            code="cannot_mix",
        )


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: AdapterMixSettings
) -> Mapping[str, Any]:
    """Combine, compare the weights, write."""
    context.starts_libraries()
    from studio.training.mix.make import mix_adapters

    return {"adapter": mix_adapters(context, inputs, settings).to_json()}


_LABELS = {
    "linear": "linear",
    "cat": "concatenation",
    "svd": "SVD",
    "ties": "TIES",
    "dare_linear": "DARE (linear)",
    "dare_ties": "DARE (TIES)",
    "magnitude_prune": "magnitude prune",
}

NODE = NodeType(
    id="adapter_mix",
    title="Adapter Mix",
    version=1,
    category="Result",
    purpose="result",
    icon="boxes",
    help=(
        "Combines adapters of one base model by weights into a plain LoRA, or scales one. With validation rows, the "
        "loss is compared for several weights."
    ),
    stages=("combine",),
    settings=AdapterMixSettings,
    run=run,
    check=check,
    inputs=(
        *(input_(p, ADAPTER, f"Adapter {p.upper()}", required=p == "a") for p in PORTS),
        input_("dataset", DATASET, "Validation rows", required=False),
    ),
    outputs=(output("adapter", ADAPTER, "Adapter", "A plain LoRA with the effect of all."),),
    summary=lambda s: _LABELS[s.method],
)
