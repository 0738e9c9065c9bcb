"""Out-of-memory errors as a ``StudioError`` that says what to change.

On a GPU with 8 GiB this is the most frequent error. torch, the CUDA libraries and the CPU allocator report
it in different ways; other errors pass unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.node_settings.train import TrainSettings
from studio.values import FULL_FINE_TUNING, AdaptedModelValue

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")
_LIGHT_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit", "adafactor", "lion_8bit", "sgd")
_SHORT_TOKENS = 256


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is one of the known reports of running out of memory."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error).lower() for words in _SAID)


@contextmanager
def explain_out_of_memory(
    context: StepContext, what: str, hint: str, field: str | None = None
) -> Iterator[None]:
    """Turn an out-of-memory error into a ``StudioError``; ``what`` names the task, such as “training”."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise not_enough(context, what, f"{type(error).__name__}: {error}", field, hint) from error


def not_enough(
    context: StepContext, what: str, said: str, field: str | None, hint: str
) -> StudioError:
    """The ``StudioError``; ``said`` is the original error, with the name of its type."""
    lower = said.lower()
    gpu = "outofmemoryerror" in lower or "cuda" in lower or "cublas" in lower
    return StudioError(
        f"there is not enough {'GPU memory' if gpu else 'memory'} for this {what}.",
        title="Out of memory",
        hint=hint,
        field=field,
        code="out_of_memory",
    )


def what_to_change(
    settings: TrainSettings,
    adapted: AdaptedModelValue,
    micro_batch: int,
    checkpointing: bool = True,
) -> str:
    """Changes that save memory and have not been made yet, the least harmful first. Without
    ``checkpointing``, the model does not support it, or the run has turned it on itself."""
    ways = []
    if micro_batch > 1:
        rows_per_step = settings.batch_size * settings.gradient_accumulation_steps
        ways.append(f"set the batch size to 1 and the gradient accumulation to {rows_per_step}")
    if checkpointing and not settings.gradient_checkpointing:
        ways.append("turn on gradient checkpointing")
    if settings.optimizer not in _LIGHT_OPTIMIZERS:
        ways.append("choose the optimizer AdamW 8-bit, paged")
    full = adapted.method == FULL_FINE_TUNING
    if adapted.model.quantization == "none" and not full:
        ways.append("quantize the base model to 4 bits")
    if settings.max_length > _SHORT_TOKENS:
        ways.append(f"lower the maximum length from {settings.max_length} tokens")
    if full:
        ways.append("train an adapter: insert a LoRA node before Train")
    else:
        ways.append(f"lower the rank from {adapted.r}, or adapt fewer layers")
    ways.append("choose a smaller model")
    listed = " ".join(f"{i}. {way[0].upper()}{way[1:]}." for i, way in enumerate(ways, 1))
    return (
        f"Ways to save memory, with the least effect first: {listed} The last checkpoint is kept."
    )
