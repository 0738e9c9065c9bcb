"""The environment variables of a process that will import torch, beside the number of threads.

torch reads them once, when the GPU is first used. What the user has set is kept.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping

ALLOCATOR_CONFIGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""The names under which torch reads the settings of its allocator; the first is the present one."""


def driver_spills() -> bool:
    """Whether the GPU's driver gives main memory to a program when the GPU's is full: Windows' does, also
    under WSL."""
    return sys.platform == "win32" or "microsoft" in platform.uname().release.lower()


def torch_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``environment``.

    Expandable segments avoid most fragmentation of the GPU's memory when the lengths of batches differ. torch
    supports them on Linux; a torch without CUDA ignores the setting.
    """
    given = any(environment.get(name) for name in ALLOCATOR_CONFIGS)
    if given or sys.platform != "linux" or driver_spills():
        return {}
    return {ALLOCATOR_CONFIGS[0]: "expandable_segments:True"}
