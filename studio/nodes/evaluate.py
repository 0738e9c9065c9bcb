"""The Evaluate node: answers of the base model and of the tuned model to the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studio.graph.node_type import NodeType
from studio.graph.ports import ADAPTER, DATASET, MODEL, REPORT, input_, output
from studio.node_settings.evaluate import EvaluateSettings
from studio.system.number_text import quantity

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: EvaluateSettings
) -> Mapping[str, Any]:
    """Ask both models and compare their answers with the expected ones."""
    context.starts_libraries()
    from studio.training.answer.evaluate import evaluate

    return {"report": evaluate(context, inputs["dataset"], inputs["model"], settings).to_json()}


NODE = NodeType(
    id="evaluate",
    title="Evaluate",
    version=1,
    category="Result",
    purpose="result",
    icon="scale",
    help="Generates answers to held-out prompts before and after fine-tuning, and counts exact matches.",
    stages=("evaluate",),
    settings=EvaluateSettings,
    run=run,
    inputs=(
        input_("dataset", DATASET, "Test rows", "Rows held out from training."),
        input_("model", (MODEL, ADAPTER), "Tuned model"),
    ),
    outputs=(output("report", REPORT, "Report"),),
    summary=lambda s: quantity(s.rows, "row") if s.rows else "all rows",
)
