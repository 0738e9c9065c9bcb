"""Out-of-memory errors as a ``StudioError`` that says what to change.

On a GPU with 8 GiB this is the most frequent error. torch, the CUDA libraries and the CPU allocator report
it in different ways, and libraries wrap it into errors of their own (``out_of_memory_in`` finds it); other
errors pass unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from studio.errors import StudioError
from studio.node_settings.train import TrainSettings
from studio.system.memory import is_on_gpu, out_of_memory_in
from studio.values import FULL_FINE_TUNING, AdaptedModelValue

_LIGHT_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit", "adafactor", "lion_8bit", "sgd")
_SHORT_TOKENS = 256


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also where a library raised another error because of it."""
    return out_of_memory_in(error) is not None


@contextmanager
def explain_out_of_memory(what: str, hint: str, field: str | None = None) -> Iterator[None]:
    """Turn an out-of-memory error into a ``StudioError``; ``what`` names the task, such as “training”."""
    try:
        yield
    except Exception as error:
        reported = out_of_memory_in(error)
        if reported is None:
            raise
        raise not_enough(what, is_on_gpu(reported), field, hint) from error


def not_enough(what: str, gpu: bool, field: str | None, hint: str) -> StudioError:
    """The ``StudioError``; ``gpu``: it is the GPU's memory that ran out."""
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
