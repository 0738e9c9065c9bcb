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
from studio.models import classify
from studio.runs.context import StepContext
from studio.training.snapshot import save_adapter
from studio.values import AdaptedModelValue, ModelValue


def build_adapter(context: StepContext, base: Any, adapted: AdaptedModelValue) -> Any:
    """The base with a fresh adapter: adapter weights in float32, everything else frozen."""
    method = _method(context, adapted)
    quantization = adapted.model.quantization
    if quantization != "none" and quantization not in method.quantized:
        raise StudioError(
            f"{context.title}: the method {adapted.method} does not train on a base that is "
            f"quantized to {quantization}.",
            title="Method and quantization do not go together",
            hint="Set Quantization to None, or choose LoRA.", code="method_quantization",
        )  # fmt: skip
    try:
        return get_peft_model(base, method.build(adapted))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise StudioError(
            f"{context.title}: the adapter cannot be put on this model: {error}",
            title="The adapter does not fit", hint="Check the LoRA node's settings.",
            code="adapter_build",
        ) from error  # fmt: skip


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
