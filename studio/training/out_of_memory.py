"""Running out of memory, in words and with what to change.

Why: on a graphics card of 8 GiB it is the error that people meet most. torch, CUDA's libraries and the
CPU allocator each say it in their own way. No other error is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studio.errors import StudioError
from studio.runs.context import StepContext

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says, in any of the known ways, that memory ran out."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error).lower() for words in _SAID)


@contextmanager
def told_in_words(
    context: StepContext, what: str, hint: str, field: str | None = None
) -> Iterator[None]:
    """Turn such an error into a ``StudioError``; ``what`` was done: “training”."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).lower()
        gpu = isinstance(error, torch.OutOfMemoryError) or "cuda" in said or "cublas" in said
        raise StudioError(
            f"{context.title}: the {'GPU' if gpu else 'computer'}'s memory is not enough for this {what}.",
            title="Out of memory", hint=hint, field=field, code="out_of_memory",
        ) from error  # fmt: skip
