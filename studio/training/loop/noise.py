"""NEFTune: uniform noise on the input embeddings during training (Jain et al. 2023,
arXiv:2310.05914).

Existing implementations scale the noise by the length of the sequence, but a padding-free batch
holds several rows in one sequence, and the noise depends on each row's length. The hook exists only
during one forward pass, so it is never saved. Random numbers come from torch's generator, whose
state is part of every checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from studio.training.batch.batches import Batch


@contextmanager
def noisy_embeddings(model: Any, batch: Batch, alpha: float) -> Iterator[None]:
    """Within the block, embeddings of ``batch`` get noise from ±alpha / sqrt(length · size)."""
    if not alpha:
        yield
        return
    lengths = row_lengths_per_token(batch)

    def add(module: torch.nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        del module, args
        reach = alpha / (lengths * output.shape[-1]).clamp(min=1).sqrt() * (lengths > 0)
        return output + torch.empty_like(output).uniform_(-1, 1) * reach[..., None].to(output.dtype)

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    handle = base.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def row_lengths_per_token(batch: Batch) -> torch.Tensor:
    """For every token of (batch, seq) the length of its row; 0 for padding."""
    ids = batch["input_ids"]
    if "lengths" in batch:
        lengths = torch.tensor(batch["lengths"], device=ids.device)
        return lengths.repeat_interleave(lengths)[None].float()
    mask = batch["attention_mask"]
    return (mask.sum(-1, keepdim=True) * mask).float()
