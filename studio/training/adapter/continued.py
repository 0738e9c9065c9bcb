"""Training on from an adapter: it starts from its weights, with its own config.

Nothing is initialized again. A method that is only a start or a schedule (PiSSA, EVA, AdaLoRA and others) has left a
LoRA, and the training goes on as one of LoRA. Ranks, layers and scale are those of the adapter.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.adapter_check import adapter_faults
from studio.model.adapter_config import described, method_of_config
from studio.model.adapter_files import CONFIG, WEIGHTS
from studio.model.folder_files import read_json
from studio.training.adapter.attach import attach
from studio.training.saved.tensor_files import read_tensors
from studio.values import AdaptedModelValue, AdapterValue
from studio.variants.lora_method import LoraMethod

_OF_MACHINE = (
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "inference_mode",
    "auto_mapping",
)
"""Keys of the config that say nothing about what is trained."""


def continuing(context: StepContext, adapter: AdapterValue) -> AdaptedModelValue:
    """What a training that goes on with ``adapter`` trains. Raises ``StudioError`` if there is no such training."""
    folder = Path(adapter.path)
    for fault in adapter_faults(folder, None):
        raise StudioError(fault.sentence, hint=fault.hint, code=fault.code, file=fault.file)
    config = read_json(folder, CONFIG)
    method = _method(context, adapter, config)
    found = described(adapter.model.model, config, method, folder)
    same = method == adapter.model.method
    if not same:
        title = context.registry.variants["adapter"][adapter.model.method].title
        form = context.registry.variants["adapter"][method].title
        context.notice(
            f"The adapter was trained with {title}, which ends with its training: it was saved as {form}"
            + (f" of rank {found.r}" if found.r else "")
            + f", and is trained further with {form}.",
            level="info",
        )
    own = adapter.model.method_settings if same else {}
    return found.model_copy(update={"method_settings": own, "continues": adapter})


def _method(context: StepContext, adapter: AdapterValue, config: dict[str, Any]) -> str:
    """The method to train with from now on."""
    variant = context.registry.variants["adapter"].get(adapter.model.method)
    method: LoraMethod | None = variant.payload if variant else None
    if variant is not None and method is not None and method.cannot_continue:
        raise StudioError(
            f"adapters of the method {variant.title} cannot be trained further: {method.cannot_continue}.",
            title="The adapter cannot be trained further",
            hint="Merge the adapter, and train a new one on the merged model.",
            code="cannot_continue",
        )
    if method is not None and not method.only_begins:
        return adapter.model.method
    return method_of_config(config)


def load_trainable(base: Any, adapter: AdapterValue) -> Any:
    """``base`` with the adapter, whose weights are trained. Raises ``StudioError`` if a weight is missing."""
    folder = Path(adapter.path)
    config = PeftConfig.from_pretrained(str(folder))
    if isinstance(getattr(config, "init_lora_weights", None), str):
        config.init_lora_weights = (
            True  # all weights are loaded; computing a start would take minutes
        )
    config.inference_mode = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = attach(
            base,
            folder,
            is_trainable=True,
            config=config,
            torch_device=str(next(base.parameters()).device),
        )
    missing = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
    if missing:
        raise StudioError(
            "the adapter has no weights for some of its layers, so it cannot be trained further.",
            title="The adapter cannot be trained further",
            hint="Load the adapter again, or use an earlier checkpoint of it.",
            code="bad_adapter",
            file=str(folder),
        )
    return model


def identity_of_start(adapter: AdapterValue) -> str:
    """The identity of the weights and the config that a training starts from, wherever they lie."""
    folder = Path(adapter.path)
    config = {k: v for k, v in read_json(folder, CONFIG).items() if k not in _OF_MACHINE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    with (folder / WEIGHTS).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def is_unchanged(adapter: AdapterValue, folder: Path) -> bool:
    """Whether the adapter in ``folder`` still has the weights that its training started from."""
    before, after = read_tensors(Path(adapter.path) / WEIGHTS), read_tensors(folder / WEIGHTS)
    return before.keys() == after.keys() and all(
        torch.equal(before[n].float(), after[n].float()) for n in before
    )
