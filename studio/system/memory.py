"""How much memory is in use now, in GiB; cheap enough for every optimizer step. And which errors mean that
there is not enough of it.

It must not import torch: a process that has not loaded it has no video memory to report, and its errors
are known by name.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from functools import lru_cache

import psutil

from studio.errors import Stopped, StudioError
from studio.system.disk import number_of

GIB = 2**30
HEADROOM = 1.2
"""Memory for inference, as a multiple of the size of the weights."""
BY_LAYERS = 3 * 2**29
"""Bytes in float32 (1.5 GiB, about 400 million parameters): a larger model is compared layer by layer on the CPU."""

_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",  # of cuBLAS and cuDNN
    "bad_alloc",
    "paging file is too small",  # Windows, when a file is mapped or a library is loaded
)
_SPEAKING = ("RuntimeError", "AcceleratorError", "SafetensorError", "OSError", "ImportError")
"""Errors whose text is written by a library. That of others may contain the user's data."""
_GPU_WORDS = ("cuda", "cublas", "cudnn", "hip out of memory")


def out_of_memory_in(error: BaseException) -> BaseException | None:
    """The error by which a library reported that memory ran out: ``error`` itself, or one that it was
    raised from. ``None`` for other errors, and for those that already are sentences for the user."""
    return next((e for e in causes(error) if _reports_it(e)), None)


def is_on_gpu(error: BaseException) -> bool:
    """Whether it is the GPU's memory that ran out."""
    said = f"{type(error).__name__}: {error}".lower()
    return "outofmemoryerror" in said or any(word in said for word in _GPU_WORDS)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was raised from, up to one that is a sentence for the user."""
    seen: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in seen and not isinstance(here, (StudioError, Stopped)):
        seen.append(here)
        yield here
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)


def _reports_it(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return True
    if number_of(error) == errno.ENOMEM:
        return True
    said = str(error).lower() if names.intersection(_SPEAKING) else ""
    return any(words in said for words in _WORDS)


@lru_cache(maxsize=1)
def _process() -> psutil.Process:
    return psutil.Process()


def read_memory() -> dict[str, float]:
    """RAM of this process and of the system, and with CUDA the memory of the current GPU.

    ``vram_allocated_gib`` is what tensors hold, ``vram_reserved_gib`` what torch keeps for them,
    ``vram_device_gib`` what everything on the GPU uses together.
    """
    reading = {
        "ram_process_gib": round(_process().memory_info().rss / GIB, 4),
        "ram_system_gib": round(psutil.virtual_memory().used / GIB, 4),
    }
    return {**reading, **_video_memory()}


def _video_memory() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "vram_allocated_gib": round(torch.cuda.memory_allocated() / GIB, 4),
        "vram_reserved_gib": round(torch.cuda.memory_reserved() / GIB, 4),
        "vram_device_gib": round((total - free) / GIB, 4),
    }
