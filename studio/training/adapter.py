"""Put the adapter on a base model, and write a trained one down as plain PEFT loads it.

It must not save what belongs to the base: neither embeddings nor a path of this machine where a hub
id and its commit say the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import get_peft_model

from studio.adapters._method import LoraMethod
from studio.errors import StudioError
from studio.layers import TOWERS, matches
from studio.models import classify
from studio.runs.context import StepContext
from studio.training.snapshot import save_adapter
from studio.values import AdaptedModelValue, ModelValue


def build_adapter(context: StepContext, base: Any, adapted: AdaptedModelValue) -> Any:
    """The base with a fresh adapter: adapter weights in float32, everything else frozen.

    Raises ``StudioError`` when the method, the precision or a target module does not fit the model.
    """
    method = _method(context, adapted)
    _check_biases(context, adapted)
    quantization = adapted.model.quantization
    if quantization != "none" and quantization not in method.quantized:
        raise StudioError(
            f"{context.title}: the method {adapted.method} does not train on a base that is "
            f"quantized to {quantization}.",
            title="Method and quantization do not go together",
            hint="Set Quantization to None, or choose LoRA.", code="method_quantization",
        )  # fmt: skip
    try:
        model = get_peft_model(base, _text_only(base, method.build(adapted)))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StudioError(
            f"{context.title}: the adapter cannot be put on this model: {error}",
            title="The adapter does not fit", hint="Check the LoRA node's settings.",
            code="adapter_build",
        ) from error  # fmt: skip
    _refuse_missing(context, model, adapted)
    return model


def _text_only(base: Any, config: Any) -> Any:
    """The config without the parts of the model that see or hear, where it has any."""
    own = {part for name, _ in base.named_modules() for part in name.split(".")}
    towers = [t for t in TOWERS if t in own]
    if towers and hasattr(config, "exclude_modules"):
        config.exclude_modules = rf"(?:.*\.)?(?:{'|'.join(towers)})\..*"
    return config


def _check_biases(context: StepContext, adapted: AdaptedModelValue) -> None:
    """Biases are trained in the model's own precision: float16 gradients cannot be scaled, and in
    bfloat16 a step smaller than a 256th of a value is lost (measured: 9 of 10 do not move)."""
    if adapted.bias != "none" and adapted.model.dtype == "bfloat16":
        context.notice(
            "The biases are trained in bfloat16, the model's precision: most of their small steps are "
            "rounded away.", "Set Bias to None in the LoRA node, or the precision to float32.",
        )  # fmt: skip
    if adapted.bias != "none" and adapted.model.dtype == "float16":
        raise StudioError(
            f"{context.title}: biases cannot be trained in float16.", title="Biases and float16",
            hint="Set Bias to None in the LoRA node, or the Base model's precision to bfloat16 or "
            "float32.", code="bias_dtype",
        )  # fmt: skip


def _refuse_missing(context: StepContext, model: Any, adapted: AdaptedModelValue) -> None:
    """PEFT is content when one target matches; the user asked for all of them. (PEFT itself renames
    the experts of a mixture, so those are not looked for.)"""
    found = getattr(model.base_model, "targeted_module_names", None)
    if found is None or getattr(model.peft_config["default"], "target_parameters", None):
        return
    missing = [t for t in adapted.target_modules if not any(matches(n, t) for n in found)]
    if missing:
        raise StudioError(
            f"{context.title}: “{missing[0]}” is in the files of {adapted.model.source}, but is no "
            "layer of the loaded model that can be adapted.",
            title="A target module is missing", code="unknown_target",
            hint="Choose other target modules in the LoRA node; their last names are enough.",
        )  # fmt: skip


def _method(context: StepContext, adapted: AdaptedModelValue) -> LoraMethod:
    try:
        return context.variant("adapter", adapted.method).payload
    except KeyError:
        raise StudioError(
            f"{context.title}: there is no LoRA method called “{adapted.method}”.",
            code="unknown_variant",
        ) from None  # fmt: skip


def write_adapter(model: Any, adapted: AdaptedModelValue, tokenizer: Any, folder: Path) -> None:
    """Write weights, config, tokenizer and chat template into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base_reference(adapted.model)
    save_adapter(model, folder)
    tokenizer.save_pretrained(str(folder))


def base_reference(value: ModelValue) -> tuple[str, str | None]:
    """How others find the base: hub id and commit, else the local folder."""
    if classify(value.source) == "hub" and value.revision:
        return value.source, value.revision
    return value.path, None
