"""The LoRA step: match the target modules with the model's real layers and describe the adapter.

Nothing is loaded: the layers are read from the headers of the model's files. A wrong name is an
error here, never an adapter with fewer layers than the user asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.layers import read_linear_modules, resolve_targets
from studio.models import nearest_hint, wrong_target_sentence
from studio.runs.context import StepContext
from studio.values import AdaptedModelValue, ModelValue


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
