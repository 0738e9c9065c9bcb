"""The LoRA node: what is trained on top of the frozen model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTED_MODEL, MODEL, input_, output
from studio.node_settings.lora import LoraSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: LoraSettings, context: CheckContext) -> Iterable[Problem]:
    """Target modules against the real layers of the wired model, where they can be read, and the
    method against the model's quantization."""
    from studio.adapters.configure import check_method
    from studio.model.models import check_targets

    return [*check_targets(settings, context), *check_method(settings, context)]


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: LoraSettings
) -> Mapping[str, Any]:
    """Match the target modules and describe the adapter; nothing is loaded."""
    from studio.adapters.configure import describe

    return {"model": describe(context, inputs["model"], settings).to_json()}


def summary(settings: LoraSettings) -> str:
    """The method (by id or title), with rank and alpha if it uses them."""
    from studio.graph.registry import load_registry

    methods = load_registry().choices("adapter")
    used = next(
        (m.payload.uses for m in methods if settings.method in (m.id, m.title)), {"r", "alpha"}
    )
    rank = [f"r {settings.r}"] * ("r" in used) + [f"alpha {settings.alpha}"] * ("alpha" in used)
    return " · ".join([settings.method, *rank])


NODE = NodeType(
    id="lora",
    title="LoRA",
    version=2,
    category="Model",
    purpose="prepare",
    icon="layers",
    help="Adds low-rank adapters to selected layers of the model. Only the adapters are trained.",
    stages=("prepare",),
    settings=LoraSettings,
    run=run,
    check=check,
    inputs=(input_("model", MODEL, "Model"),),
    outputs=(output("model", ADAPTED_MODEL, "Model with LoRA"),),
    summary=summary,
)
