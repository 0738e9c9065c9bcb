"""The Mix node: combines two to four datasets: all rows, by weights, or fixed numbers of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import DATASET, input_, output
from studio.node_settings.mix import PORTS, MixSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: MixSettings, context: CheckContext) -> Iterable[Problem]:
    """Weights that are all 0."""
    ports = [p for p in PORTS if p in context.inputs]
    weights = [getattr(settings, f"weight_{p}") for p in ports]
    if settings.mode == "weights" and ports and not any(weights):
        yield context.problem(
            "all weights are 0, so no rows are used.",
            f"weight_{ports[0]}",
            hint="Set the weight of at least one dataset above 0.",
            code="no_weight",
        )


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: MixSettings
) -> Mapping[str, Any]:
    """Sample the rows and write them as one dataset."""
    context.starts_libraries()
    from studio.training.data.mix import mix_datasets

    return {"dataset": mix_datasets(context, inputs, settings).to_json()}


_LABELS = {"all": "all rows", "weights": "by weight", "counts": "fixed number of rows"}

NODE = NodeType(
    id="mix",
    title="Mix",
    version=1,
    category="Data",
    purpose="prepare",
    icon="layers",
    help="Combines datasets. Each row keeps its source file and line.",
    stages=("prepare",),
    settings=MixSettings,
    run=run,
    check=check,
    inputs=tuple(
        input_(p, DATASET, f"Dataset {p.upper()}", required=p in ("a", "b")) for p in PORTS
    ),
    outputs=(
        output(
            "dataset", DATASET, "Mixed dataset", ("Training and validation rows of all inputs.")
        ),
    ),
    summary=lambda s: _LABELS[s.mode],
)
