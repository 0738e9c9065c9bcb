"""How much memory is in use now, in GiB; cheap enough for every optimizer step.

It must not import torch: a process that has not loaded it has no video memory to report.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import psutil

GIB = 2**30
HEADROOM = 1.2
"""Memory for inference, as a multiple of the size of the weights."""


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
