"""Verifies that the merged model on disk computes the same logits as base and adapter.

Both are loaded by plain transformers and plain PEFT, one after the other, and run on the same few
texts. Of large models, which would not fit into memory, the weights are read layer by layer (``streamed``). Shares no
code with the merge, apart from reading tensors from files.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system.memory import BY_LAYERS, HEADROOM
from studio.training.adapter.attach import attach
from studio.training.merge.streamed import NotStreamed, streamed_logits
from studio.training.model.load import (
    FOUR_BITS,
    free_bytes,
    free_memory,
    load_base,
    pick_device,
    roomy_device,
)
from studio.training.saved.snapshot import CONFIG
from studio.training.tokens.chat import TemplateRefused, load_tokenizer, render
from studio.values import AdapterValue, ModelValue

logger = logging.getLogger(__name__)
Logits = list[torch.Tensor]
EXACT = 1e-3
_EXACT_SHARE = 1e-4
"""Rounding of float32 is relative to the logits, which are large in deep models."""

_ROUNDED_SHARE = 0.25
_TEXTS = (
    "The capital of France is",
    "def add(a, b):\n    return",
    "Once upon a time there was a small house at the edge of a wood, and in it",
)
_QUESTION = "Name three animals that live in the sea."


def merge_difference(context: StepContext, adapter: AdapterValue, merged: ModelValue) -> float:
    """The largest difference between the logits of the merged model and those of base plus adapter.

    Compared in float32 if memory allows, and on the CPU if the GPU is too small for the unquantized
    model. Models that would take much of the main memory are read layer by layer. Raises ``StudioError`` when it
    exceeds rounding.
    """
    texts = _token_rows(adapter.path)
    device, dtype = _place(merged)
    base = adapter.model.model
    if device.type == "cpu" and is_large(merged):
        both = _streamed_pair(context, adapter, merged, texts)
        if both is not None and _fits(merged, "float32", *both):
            return _largest_difference(*both)
        _refuse_too_large(merged, dtype, both)
    plain = {"dtype": dtype, "quantization": "none"}
    model = load_base(context, merged.model_copy(update=plain), "Loading the merged model", device)
    context.phase("verify", "Comparing the merged model with the adapter")
    found = _logits(context, model, texts)
    del model
    fresh = base.model_copy(update=plain)
    model = load_base(context, fresh, "Loading a fresh model to compare", device)
    model = attach(model, adapter.path)
    wanted = _logits(context, model, texts)
    del model
    free_memory()
    if not _fits(merged, dtype, found, wanted):
        raise _changed(merged, dtype, found, wanted)
    return _largest_difference(found, wanted)


def is_large(value: ModelValue) -> bool:
    """Whether a model is compared layer by layer instead of being loaded on the CPU."""
    return value.parameters * torch.float32.itemsize > BY_LAYERS


def _streamed_pair(
    context: StepContext, adapter: AdapterValue, merged: ModelValue, texts: list[list[int]]
) -> tuple[Logits, Logits] | None:
    """Logits of the merged model, and of base plus adapter; ``None`` if they cannot be read layer by layer."""
    context.phase("verify", "Comparing the merged model with the adapter")
    try:
        found = streamed_logits(context, Path(merged.path), None, texts)
        wanted = streamed_logits(context, Path(adapter.model.model.path), adapter.path, texts)
    except NotStreamed as error:
        logger.info("The models are loaded for the comparison: %s", error)
        return None
    free_memory()
    return found, wanted


def _refuse_too_large(merged: ModelValue, dtype: str, both: tuple[Logits, Logits] | None) -> None:
    """Raise ``StudioError`` if the memory is too small to load the models one after the other."""
    needed = merged.parameters * getattr(torch, dtype).itemsize
    if needed < free_bytes(torch.device("cpu")):
        return
    if both is not None:
        raise _changed(merged, "float32", *both)
    raise StudioError(
        f"comparing the merged model with the adapter needs {needed / 2**30:.1f} GiB of memory.",
        title="Not enough memory to check the merge",
        hint="Close other programs, or export the adapter itself.",
        code="out_of_memory",
    )


def quantized_difference(context: StepContext, adapter: AdapterValue, merged: ModelValue) -> float:
    """The difference between the merged model and the quantized one that was trained, caused by quantization."""
    found, wanted = _quantized_pair(context, adapter, merged)
    return _largest_difference(found, wanted)


def dequantized_difference(
    context: StepContext, adapter: AdapterValue, merged: ModelValue
) -> float:
    """The same for a model merged into the dequantized weights, which may differ by rounding only. Raises
    ``StudioError`` when it differs by more."""
    found, wanted = _quantized_pair(context, adapter, merged)
    base = adapter.model.model
    dtype = (
        base.dtype if base.quantization in FOUR_BITS else "float16"
    )  # int8 rounds the inputs too
    if not _fits(merged, dtype, found, wanted):
        raise _changed(merged, dtype, found, wanted)
    return _largest_difference(found, wanted)


def _quantized_pair(
    context: StepContext, adapter: AdapterValue, merged: ModelValue
) -> tuple[Logits, Logits]:
    """Logits of the merged model, and of the adapter on the quantized base."""
    texts = _token_rows(adapter.path)
    found = None
    if is_large(merged) and roomy_device(merged).type == "cpu":
        with suppress(NotStreamed):
            found = streamed_logits(context, Path(merged.path), None, texts)
    if found is None:
        model = load_base(context, merged, "Loading the merged model", roomy_device(merged))
        found = _logits(context, model, texts)
        del model
    base = load_base(context, adapter.model.model, "Loading the quantized model")
    wanted = _logits(context, attach(base, adapter.path), texts)
    del base
    free_memory()
    return found, wanted


@dataclass(frozen=True)
class Difference:
    """The largest difference between two lists of logits, and the largest of the wanted ones."""

    largest: float
    logit: float


def adapter_difference(context: StepContext, adapter: AdapterValue, other: Path) -> Difference:
    """How the logits of the adapter in ``other`` differ from those of ``adapter``, on its base."""
    texts = _token_rows(adapter.path)
    streamed = _streamed_adapters(context, adapter, other, texts)
    if streamed is not None:
        return streamed
    base = load_base(context, adapter.model.model, "Loading the base model to compare")
    context.phase("verify", "Comparing the two adapters")
    model = attach(base, adapter.path)
    wanted = _logits(context, model, texts)
    if _only_layers(other) and _only_layers(Path(adapter.path)):
        model.load_adapter(str(other), "other")
        model.set_adapter("other")
    else:  # PEFT does not combine them, and some methods change the base when they are loaded
        del model, base
        free_memory()
        base = load_base(context, adapter.model.model, "Loading the base model to compare")
        model = attach(base, other)
    found = _logits(context, model, texts)
    del model, base
    free_memory()
    largest = max(float(w.abs().max()) for w in wanted)
    return Difference(_largest_difference(found, wanted), largest)


def changed_difference(
    context: StepContext, value: AdapterValue, folder: Path, change: Callable[[Any], None]
) -> Difference:
    """How the logits of the adapter in ``folder``, loaded by PEFT, differ from those of the base model to which
    ``change`` was done. ``value`` gives base and tokenizer."""
    base, texts = value.model.model, _token_rows(value.path)
    both = None
    if base.quantization == "none" and is_large(base) and pick_device().type == "cpu":
        context.phase("verify", "Comparing the saved adapter")
        with suppress(NotStreamed):
            wanted = streamed_logits(context, Path(base.path), None, texts, change)
            both = streamed_logits(context, Path(base.path), str(folder), texts), wanted
    if both is None:
        model = load_base(context, base, "Loading the base model to compare")
        change(model)
        context.phase("verify", "Comparing the saved adapter")
        wanted = _logits(context, model, texts)
        del model
        free_memory()
        fresh = load_base(context, base, "Loading the base model to compare")
        both = _logits(context, attach(fresh, folder), texts), wanted
        del fresh
    free_memory()
    return Difference(_largest_difference(*both), max(float(w.abs().max()) for w in both[1]))


def _streamed_adapters(
    context: StepContext, adapter: AdapterValue, other: Path, texts: list[list[int]]
) -> Difference | None:
    """``adapter_difference`` layer by layer for a large unquantized base on the CPU; ``None`` for others."""
    base = adapter.model.model
    if base.quantization != "none" or not is_large(base) or pick_device().type != "cpu":
        return None
    context.phase("verify", "Comparing the two adapters")
    try:
        wanted = streamed_logits(context, Path(base.path), adapter.path, texts)
        found = streamed_logits(context, Path(base.path), str(other), texts)
    except NotStreamed as error:
        logger.info("The base model is loaded for the comparison: %s", error)
        return None
    free_memory()
    largest = max(float(w.abs().max()) for w in wanted)
    return Difference(_largest_difference(found, wanted), largest)


def _only_layers(folder: Path) -> bool:
    """Whether it is a LoRA that adds to layers and replaces nothing, so that PEFT holds it beside another one."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config["peft_type"] != "LORA" or config.get("bias", "none") != "none":
        return False
    return not (config.get("modules_to_save") or config.get("trainable_token_indices"))


def _token_rows(folder: str) -> list[list[int]]:
    tokenizer = load_tokenizer(folder)
    texts = list(_TEXTS)
    with suppress(TemplateRefused):  # the plain texts are sufficient
        texts.append(render(tokenizer, [{"role": "user", "content": _QUESTION}], ask=True))
    return [tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"] for t in texts]


def _place(merged: ModelValue) -> tuple[torch.device, str]:
    """Device and precision of the comparison: float32 before half precision, the GPU before the
    CPU; the smallest on the CPU if nothing fits.
    """
    free_memory()
    devices = list(dict.fromkeys([pick_device(), torch.device("cpu")]))
    choices = [(device, dtype) for device in devices for dtype in ("float32", merged.dtype)]
    for device, dtype in choices:
        needed = merged.parameters * getattr(torch, dtype).itemsize * HEADROOM
        if needed < free_bytes(device):
            return device, dtype
    return choices[-1]


@torch.no_grad()
def _logits(context: StepContext, model: Any, rows: list[list[int]]) -> Logits:
    """Logits of every position, (tokens, vocabulary) per row."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for ids in rows:
        context.check()
        logits = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits
        found.append(logits[0].float().cpu())
    return found


def _largest_difference(found: Logits, wanted: Logits) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))


def _allowed(merged: ModelValue, dtype: str, wanted: Logits) -> float:
    """The difference that rounding explains."""
    stored = merged.stored_dtype or merged.dtype
    largest = max(float(w.abs().max()) for w in wanted)
    exact = stored == "float32" and dtype == "float32"
    return max(EXACT, _EXACT_SHARE * largest) if exact else _ROUNDED_SHARE * largest


def _fits(merged: ModelValue, dtype: str, found: Logits, wanted: Logits) -> bool:
    """Whether rounding explains the difference; not for NaN."""
    return _largest_difference(found, wanted) <= _allowed(merged, dtype, wanted)


def _changed(merged: ModelValue, dtype: str, found: Logits, wanted: Logits) -> StudioError:
    return StudioError(
        "the merged model differs from the adapter: their logits differ by "
        f"{_largest_difference(found, wanted):.3g}, and rounding explains at most "
        f"{_allowed(merged, dtype, wanted):.3g}.",
        title="The merge changed the model",
        hint="Export the adapter instead, or use another LoRA method or other target modules.",
        code="merge_mismatch",
        file=str(Path(merged.path)),
    )
