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

from studio.objectives._method import PLAIN_LOSS, LossOptions
from studio.training.attention import rows_laid
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


def summed_loss(
    model: Any, batch: Batch, head: Head, options: LossOptions = PLAIN_LOSS
) -> torch.Tensor:
    """Cross-entropy summed over the batch's label tokens, each times its weight, in float32."""
    wanted = batch["shift_labels"]
    keep = wanted != IGNORED
    weights = batch["weights"][keep] if "weights" in batch else None
    with rows_laid(batch.get("lengths"), wanted.device):
        if head == "rows":
            logits = model(**_inputs(batch), logits_to_keep=keep).logits  # (labels, vocabulary)
            return loss_of(logits, wanted[keep], weights, options)
        logits = model(**_inputs(batch)).logits  # (batch, seq, vocabulary)
    if weights is None and options == PLAIN_LOSS:
        return cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
    return loss_of(logits[keep], wanted[keep], weights, options)


def loss_of(
    logits: torch.Tensor,
    wanted: torch.Tensor,
    weights: torch.Tensor | None = None,
    options: LossOptions = PLAIN_LOSS,
) -> torch.Tensor:
    """The summed loss of ``logits`` (labels, vocabulary) for the tokens ``wanted`` (labels)."""
    logits = logits.float()
    if weights is None and options == PLAIN_LOSS:
        return cross_entropy(logits, wanted, reduction="sum")
    losses = cross_entropy(
        logits, wanted, reduction="none", label_smoothing=options.label_smoothing
    )
    if options.z_loss:
        losses = losses + options.z_loss * logits.logsumexp(-1).square()
    return losses.sum() if weights is None else (weights * losses).sum()


def total_weight(batch: Batch) -> torch.Tensor:
    """What a batch's summed loss is divided by: its label tokens, or the sum of their weights."""
    keep = batch["shift_labels"] != IGNORED
    return batch["weights"][keep].sum() if "weights" in batch else keep.sum()


def _inputs(batch: Batch) -> dict[str, Any]:
    """What the model gets: a padded batch with its mask, rows in one sequence with positions."""
    names = ("input_ids", "position_ids") if "lengths" in batch else ("input_ids", "attention_mask")
    return {**{name: batch[name] for name in names}, "use_cache": False}
