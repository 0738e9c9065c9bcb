"""The first rows of a training, for methods that are initialized from data.

Draws no random numbers, so that the training sees the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.errors import StudioError
from studio.variants.lora_method import TrainingFacts


def inputs_of(batch: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """The arguments of a model's forward from a batch: ids and mask, (batch, seq) each."""
    return {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}


def large_batches(facts: TrainingFacts, tokens: int) -> list[dict[str, Any]]:
    """The batches, joined until each has at least ``tokens`` tokens without padding.

    Raises ``StudioError`` when all rows together have fewer.
    """
    found: list[dict[str, Any]] = []
    waiting: list[Mapping[str, Any]] = []
    for batch in facts.batches:
        facts.check()
        waiting.append(batch)
        if sum(int(b["attention_mask"].sum()) for b in waiting) >= tokens:
            found.append(_joined(waiting))
            waiting = []
    if not found:
        raise StudioError(
            f"The initialization of this method requires {tokens} tokens, and the first rows "
            "contain fewer.",
            title="Too few tokens for the initialization",
            code="too_few_tokens",
            hint="Lower the rank, add rows, or choose LoRA.",
            field="r",
        )
    return found


def _joined(batches: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Ids and mask of several batches as one, padded on the right."""
    import torch

    width = max(int(b["input_ids"].shape[1]) for b in batches)
    joined = {}
    for name in ("input_ids", "attention_mask"):
        padded = [torch.nn.functional.pad(b[name], (0, width - b[name].shape[1])) for b in batches]
        joined[name] = torch.cat(padded)
    return joined
