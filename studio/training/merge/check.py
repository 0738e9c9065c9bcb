"""Verifies that the merged model on disk computes the same logits as base and adapter.

Both are loaded by plain transformers and plain PEFT, one after the other, and run on the same few
texts. Shares no code with the merge.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.system.memory import HEADROOM
from studio.training.model.load import (
    free_bytes,
    free_memory,
    load_base,
    pick_device,
    roomy_device,
)
from studio.training.saved.snapshot import CONFIG
from studio.training.tokens.chat import TemplateRefused, load_tokenizer, render
from studio.values import AdapterValue, ModelValue

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
    model. Raises ``StudioError`` when it exceeds rounding.
    """
    texts = _token_rows(adapter.path)
    device, dtype = _place(merged)
    base = adapter.model.model
    plain = {"dtype": dtype, "quantization": "none"}
    model = load_base(context, merged.model_copy(update=plain), "Loading the merged model", device)
    context.phase("verify", "Comparing the merged model with the adapter")
    found = _logits(context, model, texts)
    del model
    fresh = base.model_copy(update=plain)
    model = load_base(context, fresh, "Loading a fresh model to compare", device)
    model = PeftModel.from_pretrained(model, adapter.path)
    wanted = _logits(context, model, texts)
    del model
    free_memory()
    difference = _largest_difference(found, wanted)
    _refuse(context, merged, dtype, difference, max(float(w.abs().max()) for w in wanted))
    return difference


def quantized_difference(context: StepContext, adapter: AdapterValue, merged: ModelValue) -> float:
    """The difference between the merged model and the quantized one that was trained, caused by quantization."""
    texts = _token_rows(adapter.path)
    model = load_base(context, merged, "Loading the merged model", roomy_device(merged))
    found = _logits(context, model, texts)
    del model
    base = load_base(context, adapter.model.model, "Loading the quantized model")
    wanted = _logits(context, PeftModel.from_pretrained(base, adapter.path), texts)
    del base
    free_memory()
    return _largest_difference(found, wanted)


@dataclass(frozen=True)
class Difference:
    """The largest difference between two lists of logits, and the largest of the wanted ones."""

    largest: float
    logit: float


def adapter_difference(context: StepContext, adapter: AdapterValue, other: Path) -> Difference:
    """How the logits of the adapter in ``other`` differ from those of ``adapter``, on its base."""
    texts = _token_rows(adapter.path)
    base = load_base(context, adapter.model.model, "Loading the base model to compare")
    context.phase("verify", "Comparing the two adapters")
    model = PeftModel.from_pretrained(base, adapter.path)
    wanted = _logits(context, model, texts)
    if _only_layers(other) and _only_layers(Path(adapter.path)):
        model.load_adapter(str(other), "other")
        model.set_adapter("other")
    else:  # PEFT does not combine them, and some methods change the base when they are loaded
        del model, base
        free_memory()
        base = load_base(context, adapter.model.model, "Loading the base model to compare")
        model = PeftModel.from_pretrained(base, str(other))
    found = _logits(context, model, texts)
    del model, base
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
def _logits(context: StepContext, model: Any, rows: list[list[int]]) -> list[torch.Tensor]:
    """Logits of every position, (tokens, vocabulary) per row."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for ids in rows:
        context.check()
        logits = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits
        found.append(logits[0].float().cpu())
    return found


def _largest_difference(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))


def _refuse(
    context: StepContext, merged: ModelValue, dtype: str, difference: float, largest: float
) -> None:
    stored = merged.stored_dtype or merged.dtype
    exact = stored == "float32" and dtype == "float32"
    allowed = max(EXACT, _EXACT_SHARE * largest) if exact else _ROUNDED_SHARE * largest
    if difference <= allowed:  # refuses NaN
        return
    raise StudioError(
        "the merged model differs from the adapter: their logits differ by "
        f"{difference:.3g}, and rounding explains at most {allowed:.3g}.",
        title="The merge changed the model",
        hint="Export the adapter instead, or use another LoRA method or other target modules.",
        code="merge_mismatch",
        file=str(Path(merged.path)),
    )
