"""Supervised fine-tuning loss: the head runs only where a token is to be learned.

Why: with loss on answers most positions need no logits, and logits of (batch, seq, vocabulary) are
the largest tensors of a step. The result equals the plain loss (PERFORMANCE measurements in
``benchmarks``). It must not assume what a model's forward takes: ``choose_head`` tries it out once.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from studio.training.batches import Batch
from studio.training.masks import IGNORED

Head = Literal["rows", "full"]
_PROBE_TOKENS = 12


def choose_head(model: Any, batch: Batch) -> Head:
    """``rows`` when the model computes chosen rows of logits exactly as it computes all of them.

    Tried on the first few tokens of one row, without gradients and in evaluation mode, so that no
    random number is drawn. Models without ``logits_to_keep`` take the full head.
    """
    if not _takes_logits_to_keep(model):
        return "full"
    ids = batch["input_ids"][:1, :_PROBE_TOKENS].to(model.device)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    keep[:, ::3] = True
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            every = model(input_ids=ids, use_cache=False).logits
            some = model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits
    except (TypeError, ValueError, RuntimeError, IndexError):
        return "full"
    finally:
        model.train(training)
    same = some.shape == every[keep].shape and torch.allclose(
        some.float(), every[keep].float(), rtol=1e-2, atol=1e-2
    )
    return "rows" if same else "full"


def _takes_logits_to_keep(model: Any) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def summed_loss(model: Any, batch: Batch, head: Head) -> torch.Tensor:
    """Cross-entropy summed over the batch's label tokens, in float32."""
    wanted = batch["shift_labels"]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if head == "full":
        logits = model(**inputs, use_cache=False).logits  # (batch, seq, vocabulary)
        return cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
    keep = wanted != IGNORED
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits  # (labels, vocabulary)
    return cross_entropy(logits.float(), wanted[keep], reduction="sum")
