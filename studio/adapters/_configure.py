"""The LoRA step: match the target modules with the model's real layers and describe the adapter.

Nothing is loaded: the layers are read from the headers of the model's files. A wrong name is an
error here, never an adapter with fewer layers than the user asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext
from studio.layers import read_linear_modules, resolve_targets
from studio.models import nearest_hint, wrong_target_sentence
from studio.runs.context import StepContext
from studio.values import AdaptedModelValue, ModelValue


def check_method(settings: Any, context: CheckContext) -> Iterable[Problem]:
    """Whether the method trains on the quantization, and the biases in the precision, that the wired
    Base model node asks for."""
    bases = [s for t, s in context.upstream.values() if t == "base_model"]
    variant = context.variants.get("adapter", {}).get(settings.method)
    for base in bases:
        quantization = getattr(base, "quantization", "none")
        if settings.bias != "none" and getattr(base, "dtype", "") == "float16":
            yield context.problem(
                "biases cannot be trained in float16.", "bias", code="bias_dtype",
                hint="Set Bias to None, or the model's precision to bfloat16 or float32.",
            )  # fmt: skip
        if variant is not None and quantization not in ("none", *variant.payload.quantized):
            yield context.problem(
                f"{variant.title} does not train on a base that is quantized to {quantization}.",
                "method", hint="Set Quantization to None, or choose LoRA.",
                code="method_quantization",
            )  # fmt: skip


def describe(
    context: StepContext, model_json: Mapping[str, Any], settings: Any
) -> AdaptedModelValue:
    """The model with the LoRA settings; ``target_modules`` are names that match in it."""
    model = ModelValue.model_validate(model_json)
    modules = read_linear_modules(Path(model.path))
    if not modules:
        raise StudioError(
            f"{context.title}: no linear layers were found in {model.source}.", node=context.node,
            title="Nothing to adapt", code="no_linear_layers", file=model.path,
        )  # fmt: skip
    targets, wrong = resolve_targets(modules, settings.target_modules)
    if wrong or not targets:
        name = wrong[0] if wrong else "an empty list"
        raise StudioError(
            f"{context.title}: {wrong_target_sentence(name, model.source)}",
            title="Unknown target module", hint=nearest_hint(modules, name), node=context.node,
            field="target_modules", code="unknown_target",
        )  # fmt: skip
    return AdaptedModelValue(
        model=model, method=settings.method, r=settings.r, alpha=settings.alpha,
        dropout=settings.dropout, bias=settings.bias, target_modules=targets,
        method_settings=settings.method_settings,
    )  # fmt: skip
