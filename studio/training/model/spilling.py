"""Keeps a training out of the main memory that the driver uses when the GPU is full.

Windows' driver (also under WSL) gives a program main memory instead of an error when the GPU's memory is used up.
Training then goes on, many times slower, and nothing adapts the batch. So torch may only take what was free
when the model was loaded: beyond that it reports that memory ran out, as on Linux. Where the driver moved memory
all the same, steps become far slower while the GPU is full, and a notice says so. Read in the documentation of the
driver and of torch; not measured on Windows.
"""

from __future__ import annotations

import logging
import os
import statistics
from collections import deque

import torch

from studio.graph.context import StepContext
from studio.system.torch_environment import ALLOCATOR_CONFIGS, driver_spills

logger = logging.getLogger(__name__)

KEPT_FREE = 200 * 2**20
"""Bytes for kernels and workspaces that are loaded later and that torch does not count."""
SLOWER = 4.0
"""The factor between the usual time per token and that of a step which counts as slow."""
FULL = 0.9
"""The share of the GPU's memory from which it counts as full."""
_KNOWN_STEPS = 5
_USUAL_STEPS = 20
_SLOW_STEPS = 3


def limit_memory(device: torch.device) -> float | None:
    """Let torch take what is free on the GPU now, beside what it holds; returns the fraction of the GPU's
    memory, or ``None`` where no limit is set: on a CPU, on Linux, or where the user has set one."""
    if device.type != "cuda" or not driver_spills() or _user_limit():
        return None
    free, total = torch.cuda.mem_get_info(device)
    allowed = free + torch.cuda.memory_reserved(device) - KEPT_FREE
    fraction = min(1.0, max(0.0, allowed / total))
    torch.cuda.set_per_process_memory_fraction(fraction, device)
    logger.info("torch may take %.2f of %.2f GiB on the GPU", allowed / 2**30, total / 2**30)
    return fraction


def _user_limit() -> bool:
    return any(
        "per_process_memory_fraction" in os.environ.get(name, "") for name in ALLOCATOR_CONFIGS
    )


class SlowDown:
    """Watches the time per token of the steps; a notice, once, when several in a row are far slower than those
    before while the GPU is full."""

    def __init__(self, context: StepContext, device: torch.device) -> None:
        self.context, self.device = context, device
        self.watching = device.type == "cuda" and driver_spills()
        self._usual: deque[float] = deque(maxlen=_USUAL_STEPS)
        self._slow = 0

    def step(self, seconds: float, tokens: int) -> None:
        """A step took ``seconds`` for ``tokens``."""
        if not self.watching:
            return
        each = seconds / max(1, tokens)
        if len(self._usual) < _KNOWN_STEPS or each < SLOWER * statistics.median(self._usual):
            self._usual.append(each)
            self._slow = 0
            return
        self._slow = self._slow + 1 if _used_share(self.device) >= FULL else 0
        if self._slow == _SLOW_STEPS:
            self.watching = False
            factor = each / statistics.median(self._usual)
            self.context.notice(
                f"The last {_SLOW_STEPS} steps were {factor:.0f} times slower than those before, and the "
                "GPU's memory is full: Windows is probably using main memory instead, which is slow.",
                "Close other programs that use the GPU, or stop and resume the run: its batches then adapt to the "
                "memory that is free. In the NVIDIA Control Panel, “CUDA - Sysmem Fallback Policy: Prefer No "
                "Sysmem Fallback” prevents it.",
            )


def _used_share(device: torch.device) -> float:
    """The share of the GPU's memory that all programs use, or that torch has reserved."""
    free, total = torch.cuda.mem_get_info(device)
    return max(1 - free / total, torch.cuda.memory_reserved(device) / total)
