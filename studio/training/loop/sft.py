"""Supervised fine-tuning loss; the output head is computed only for positions with labels.

When only answers are trained most positions need no logits, and logits of (batch, seq, vocabulary)
are the largest tensors of a step. The result equals the standard loss (see ``benchmarks`` for
measurements). ``choose_head`` tests once what the model's forward supports.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from studio.training.batch.attention import row_boundaries
from studio.training.batch.batches import Batch
from studio.training.loop.chunked_head import chunked_loss, frozen_head, without_head, worth_it
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.wide_products import WideLinear
from studio.training.tokens.masks import IGNORED
from studio.variants.objective import PLAIN_LOSS, LossOptions

Head = Literal["chunks", "rows", "full"]
_PROBE_TOKENS = 12


def choose_head(model: Any, batch: Batch) -> Head:
    """How to compute logits with ``model`` so that they equal those of the full head.

    ``rows``: only for selected positions. ``chunks``: for selected positions, in several parts if
    there are many. Tested on the first few tokens of one row, without gradients and in evaluation
    mode, so that no random number is drawn. Models without ``logits_to_keep`` use the full head.
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
            every = model(input_ids=ids, use_cache=False).logits[keep]
            some = model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits
            return _parts(model, ids, keep, some) if _same(some, every) else "full"
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return "full"
    finally:
        model.train(training)


def _parts(model: Any, ids: torch.Tensor, keep: torch.Tensor, logits: torch.Tensor) -> Head:
    """``chunks`` if the head alone gives bit-identical logits, that is, without later capping or scaling."""
    head = frozen_head(model)
    if head is None:
        return "rows"
    try:
        with without_head(head):
            hidden = model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits
        again = head(hidden if type(head) is WideLinear else hidden.to(head.weight.dtype))
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        return "rows"
    return "chunks" if torch.equal(again.float(), logits.float()) else "rows"


def _same(some: torch.Tensor, every: torch.Tensor) -> bool:
    return some.shape == every.shape and torch.allclose(
        some.float(), every.float(), rtol=1e-2, atol=1e-2
    )


def _takes_logits_to_keep(model: Any) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def summed_loss(
    model: Any, batch: Batch, head: Head, options: LossOptions = PLAIN_LOSS
) -> torch.Tensor:
    """Cross-entropy summed over the batch's label tokens, each multiplied by its weight, in float32."""
    wanted = batch["shift_labels"]
    keep = wanted != IGNORED
    weights = batch["weights"][keep] if "weights" in batch else None
    with row_boundaries(batch.get("lengths"), wanted.device):
        if head == "chunks" and worth_it(int(keep.sum()), last := frozen_head(model)):
            with without_head(last):
                hidden = model(**_inputs(batch), logits_to_keep=keep).logits  # (labels, size)
            return chunked_loss(
                hidden, last, wanted[keep], weights, partial(loss_of, options=options)
            )
        if head != "full":
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
    """The divisor of a batch's summed loss: its number of label tokens, or the sum of their weights."""
    keep = batch["shift_labels"] != IGNORED
    return batch["weights"][keep].sum() if "weights" in batch else keep.sum()


def _inputs(batch: Batch) -> dict[str, Any]:
    """The arguments of the model: ids with an attention mask if padded, otherwise with position ids."""
    names = ("input_ids", "position_ids") if "lengths" in batch else ("input_ids", "attention_mask")
    return {**{name: batch[name] for name in names}, "use_cache": False}
