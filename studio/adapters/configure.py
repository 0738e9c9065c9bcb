"""The LoRA step: matches the settings with the model's layers and describes the adapter.

No model is loaded: the layers are read from the headers of its files. A wrong name is an error and
never leads to an adapter with fewer layers than requested. What a method does not support is a
Problem before the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.adapters.trained_tokens import token_errors, token_ids
from studio.errors import Problem, StudioError
from studio.graph.context import StepContext
from studio.graph.node_type import CheckContext, Variant
from studio.graph.schema import fields_of
from studio.model.folder_files import read_json
from studio.model.layers import LinearModule, read_linear_modules
from studio.model.models import ends_of, linear_modules
from studio.model.targets import (
    Chosen,
    FieldError,
    FullyTrainedModule,
    choose,
    end_modules,
    fully_trained_modules,
    is_tied,
    listed,
)
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.lora import LoraSettings
from studio.values import AdaptedModelValue, ModelValue
from studio.variants.lora_method import LoraMethod, quantization_error


def check_method(settings: LoraSettings, context: CheckContext) -> Iterable[Problem]:
    """Problems of the method with the connected Base model node, the layers and the settings."""
    variant = context.variants.get("adapter", {}).get(settings.method)
    if variant is None:
        return
    method: LoraMethod = variant.payload
    for field, sentence, hint in token_errors(settings):
        yield context.problem(sentence, field, hint=hint, code="token_trained_twice")
    yield from _unused(settings, context, variant)
    for base in (s for _, s in context.upstream.values() if isinstance(s, BaseModelSettings)):
        yield from _check_precision(settings, context, variant, base)
        modules = linear_modules(base.model, context.project_dir)
        if modules and not method.own_layers:
            ends = ends_of(base.model, context.project_dir, settings)
            layers = choose(modules, settings, "", ends).layers
            for field, sentence, hint in layer_errors(settings, variant, layers):
                yield context.problem(sentence, field, hint=hint, code="method_layers")


def _check_precision(
    settings: LoraSettings, context: CheckContext, variant: Variant, base: BaseModelSettings
) -> Iterator[Problem]:
    method: LoraMethod = variant.payload
    quantization, dtype = base.quantization, base.dtype
    if settings.bias != "none" and "bias" in method.uses and dtype == "float16":
        yield context.problem(
            "biases cannot be trained in float16.",
            "bias",
            code="bias_dtype",
            hint="Set Bias to None, or the model's precision to bfloat16 or float32.",
        )
    if listed(settings.modules_to_save) and dtype == "float16":
        yield context.problem(
            "fully trained modules cannot be trained in float16.",
            "modules_to_save",
            hint="Clear the field, or set the model's precision to bfloat16 or float32.",
            code="saved_dtype",
        )
    reason = quantization_error(variant.title, method, quantization)
    if reason:
        yield context.problem(
            reason,
            "method",
            code="method_quantization",
            hint="Set Quantization to 4-bit NF4, or choose LoRA."
            if method.only_quantized
            else "Set Quantization to None, or choose LoRA.",
        )
    if dtype not in ("", "auto", *method.dtypes):
        yield context.problem(
            f"{variant.title} does not train in {dtype}.",
            "method",
            code="method_dtype",
            hint=f"Set the model's precision to {' or '.join(method.dtypes)}.",
        )


def layer_errors(
    settings: LoraSettings, variant: Variant, layers: Sequence[LinearModule]
) -> Iterator[FieldError]:
    """Problems of the method with the chosen layers."""
    method: LoraMethod = variant.payload
    yield from _end_errors(settings, variant, layers)
    experts = next((m.name for m in layers if ".experts." in m.name), None)
    if experts is not None and not method.experts:
        yield (
            "method",
            (
                f"{variant.title} does not support the experts of a mixture-of-experts model, such as "
                f"{experts}."
            ),
            "Set the target modules to Attention, or choose LoRA.",
        )
    turned = next((m.name for m in layers if m.transposed), None)
    if turned is not None and not method.transposed:
        yield (
            "method",
            (
                f"{variant.title} does not support layers that store their weights transposed (Conv1D), "
                f"such as {turned}."
            ),
            "Choose LoRA or DoRA for this model.",
        )
    if experts is not None and settings.dropout:
        yield (
            "dropout",
            "the experts of a mixture-of-experts model cannot be trained with dropout.",
            "Set Dropout to 0, or the target modules to Attention.",
        )
    if method.fits is None:
        return
    try:
        own = variant.settings.model_validate(settings.method_settings)
    except ValueError:
        return  # an invalid setting is reported as another Problem
    for field, sentence in method.fits(settings, own, layers):
        yield field, sentence, "Change it, or choose other target modules."


def _end_errors(
    settings: LoraSettings, variant: Variant, layers: Sequence[LinearModule]
) -> Iterator[FieldError]:
    """Problems with an adapter of the embedding or the head."""
    ends = [m for m in layers if m.end]
    method: LoraMethod = variant.payload
    for end in ends:
        last = end.name.rpartition(".")[2]
        full = any(n.rpartition(".")[2] == last for n in listed(settings.modules_to_save))
        if not method.ends:
            yield (
                "target_modules",
                f"{variant.title} does not support {end.name}, the {end.end} of the model.",
                "Choose LoRA, or enter it under “Fully trained modules” instead.",
            )
        elif full:
            yield (
                "target_modules",
                f"“{last}” is a target module, and is fully trained as well.",
                "Clear one of the two settings.",
            )
        elif listed(settings.trained_tokens):
            yield (
                "trained_tokens",
                f"the {end.end} has an adapter, which trains these tokens, too.",
                "Clear the field, or remove the embedding and the head from the target modules.",
            )


def _unused(settings: LoraSettings, context: CheckContext, variant: Variant) -> Iterator[Problem]:
    """Settings that were changed but are not used by the method."""
    method: LoraMethod = variant.payload
    specs = {s.name: s for s in fields_of(type(settings))}
    for field in method.unused_fields:
        spec = specs.get(field)
        if spec is None or getattr(settings, field) == spec.default:
            continue
        yield context.problem(
            f"{variant.title} does not use {spec.meta.label}.",
            field,
            code="setting_unused",
            hint="Reset it to its default, or choose another method.",
            severity="warning",
        )


def describe(
    context: StepContext, model_json: Mapping[str, Any], settings: LoraSettings
) -> AdaptedModelValue:
    """The model with the LoRA settings; ``target_modules`` are names that match its layers."""
    model = ModelValue.model_validate(model_json)
    modules = read_linear_modules(Path(model.path))
    if not modules:
        raise StudioError(
            f"no linear layers were found in {model.source}.",
            node=context.node,
            title="Nothing to adapt",
            code="no_linear_layers",
            file=model.path,
        )
    chosen = choose(modules, settings, model.source, end_modules(Path(model.path)))
    for field, sentence, hint in chosen.errors:
        raise StudioError(
            sentence,
            title="Unknown target module",
            hint=hint,
            node=context.node,
            field=field,
            code="unknown_target",
        )
    _refuse_misfits(context, settings, chosen)
    _report_tied_ends(context, Path(model.path), chosen.layers)
    return AdaptedModelValue(
        model=model,
        method=settings.method,
        r=settings.r,
        alpha=settings.alpha,
        dropout=settings.dropout,
        bias=settings.bias,
        target_modules=chosen.names,
        method_settings=settings.method_settings,
        rank_pattern=chosen.ranks,
        alpha_pattern=chosen.alphas,
        modules_to_save=_modules_to_save(context, model, settings),
        trained_tokens=token_ids(context, model, settings),
    )


def _refuse_misfits(context: StepContext, settings: LoraSettings, chosen: Chosen) -> None:
    try:
        variant = context.registry.variants["adapter"][settings.method]
    except KeyError:
        return  # an unknown method is refused in the training
    if variant.payload.own_layers:
        return
    for field, sentence, hint in layer_errors(settings, variant, chosen.layers):
        raise StudioError(
            sentence,
            title="Method and layers are incompatible",
            hint=hint,
            node=context.node,
            field=field,
            code="method_layers",
        )


def _report_tied_ends(context: StepContext, folder: Path, layers: Sequence[LinearModule]) -> None:
    """A notice when embedding and head share a matrix, and the adapter parts them."""
    names = [m.name for m in layers if m.end]
    if not names:
        return
    try:
        config = read_json(folder, "config.json")
    except (OSError, ValueError):
        return
    if is_tied(config):
        what = f"Only “{names[0]}” gets" if len(names) == 1 else "Each gets"
        context.notice(
            "The model shares one matrix between its embedding and its head. "
            f"{what} an adapter{'' if len(names) == 1 else ' of its own'}, so the two will differ, and "
            "a merged model contains both.",
            level="info",
        )


def _modules_to_save(context: StepContext, model: ModelValue, settings: LoraSettings) -> list[str]:
    """The modules to save; a notice reports the size of each."""
    names = listed(settings.modules_to_save)
    tied = []
    for name, found in fully_trained_modules(Path(model.path), names):
        if found is None:
            raise StudioError(
                f"“{name}” is not a module of {model.source}.",
                node=context.node,
                title="Unknown module",
                field="modules_to_save",
                code="unknown_module",
                hint="Typical names are embed_tokens and lm_head, or wte for GPT-2.",
            )
        _report_fully_trained(context, model, found)
        tied += [name] if found.tied else []
    if tied:
        what = f"Only “{tied[0]}” is" if len(tied) == 1 else "Both are"
        each = "" if len(tied) == 1 else ", each for itself"
        context.notice(
            "The model shares one matrix between its embedding and its head. "
            f"{what} trained{each}, so the two will differ, and a merged model contains both.",
            level="info",
        )
    return names


def _report_fully_trained(
    context: StepContext, model: ModelValue, found: FullyTrainedModule
) -> None:
    bytes_each = 4 if model.dtype == "float32" else 2
    size = found.parameters * bytes_each / 1e6
    context.notice(
        f"“{found.name}” is fully trained: {found.parameters:,} parameters, {size:,.0f} MB more in the adapter file.",
        level="info",
    )
