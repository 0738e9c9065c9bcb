"""The hardware of this computer, found without torch: CPU, memory, GPUs.

Used by ``doctor``, the window's status line and ``RunStarted``. A driver that is missing or broken
means "no GPU", never an error.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One graphics card; memory in GiB."""

    index: int
    name: str
    total_gib: float
    used_gib: float


@lru_cache(maxsize=1)
def cpu_model() -> str:
    """The name of the CPU."""
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.lower().startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine() or "unknown CPU"


def cpu_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def planned_threads(leave_core: bool) -> int:
    """Threads that a new run computes with: those that ``OMP_NUM_THREADS`` asks for, else all cores,
    or all but one."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    cores = cpu_count()
    return max(1, cores - 1) if leave_core else cores


def ram_total_gib() -> float:
    """Installed memory."""
    return round(float(psutil.virtual_memory().total) / GIB, 2)


def ram_free_gib() -> float:
    """Memory that is available to programs."""
    return round(float(psutil.virtual_memory().available) / GIB, 2)


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that the driver lists."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no library, or another version of it
        return []
    try:
        return [_gpu(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    text = name.decode() if isinstance(name, bytes) else str(name)
    return Gpu(index, text, round(memory.total / GIB, 2), round(memory.used / GIB, 2))


def _visible(wanted: str | None) -> list[Gpu]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, in its order; all when it names them by UUID."""
    names = [name.strip() for name in (wanted or "").split(",")]
    if wanted is not None and names[0] in ("", "-1"):
        return []
    found = gpus()
    if wanted is None or not all(name.isdigit() for name in names):
        return found
    return [g for name in names for g in found if g.index == int(name)]


def usable_gpus() -> list[Gpu]:
    """The cards that torch may use: none with a build of torch for CPUs only."""
    try:
        build = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        build = ""
    return [] if build.endswith("+cpu") else _visible(os.environ.get("CUDA_VISIBLE_DEVICES"))


def describe_device() -> str:
    """One line: the first GPU that may be used, else the CPU and its cores."""
    found = _visible(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"{found[0].name}, {found[0].total_gib:.0f} GiB{more}"
    cores = cpu_count()
    return f"{cpu_model()}, {cores} core{'s' if cores != 1 else ''}"
