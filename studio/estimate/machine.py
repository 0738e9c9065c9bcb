"""The memory and the measured training speed of this machine, without torch.

Free memory is read again after ``FRESH_S`` seconds. Speeds are always measured, by an earlier run
or by a probe.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.system.hardware import (
    GIB,
    cpu_count,
    cpu_model,
    describe_device,
    gpus,
    ram_free_gib,
    ram_total_gib,
)

FRESH_S = 5.0
FRAMEWORK = {"cpu": 620 * 10**6, "cuda": 600 * 10**6}
"Bytes in use before a model is loaded: on a CPU Python with torch, transformers and "
"PEFT\n(measured, see docs/estimate.md), on a GPU the context and the workspace of its libraries."


@dataclass(frozen=True)
class Machine:
    """The device that trains. ``available`` are bytes that a run may take; ``bfloat16`` whether
    Auto would take that precision; ``fragments`` whether freed tensors fragment the heap, as with
    glibc."""

    name: str
    device: str
    available: int
    total: int
    bfloat16: bool
    framework: int
    cores: int = 1
    fragments: bool = False


def this_machine() -> Machine:
    """The current state of this machine."""
    return _machine(int(time.monotonic() / FRESH_S))


@lru_cache(maxsize=1)
def _machine(moment: int) -> Machine:
    del moment
    cards = gpus()
    if cards:
        card = cards[0]
        free = int((card.total_gib - card.used_gib) * GIB)
        return Machine(
            describe_device(),
            "cuda",
            free,
            int(card.total_gib * GIB),
            _gpu_computes_bfloat16(),
            FRAMEWORK["cuda"],
        )
    return Machine(
        describe_device(),
        "cpu",
        int(ram_free_gib() * GIB),
        int(ram_total_gib() * GIB),
        cpu_computes_bfloat16(),
        FRAMEWORK["cpu"],
        cpu_count(),
        allocator_fragments(),
    )


@lru_cache(maxsize=1)
def _gpu_computes_bfloat16() -> bool:
    """Whether the GPU is Ampere or newer."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetCudaComputeCapability(handle)[0]) >= 8
    except Exception:  # no driver, no library, or another version of it
        return True


@lru_cache(maxsize=1)
def allocator_fragments() -> bool:
    """Whether glibc's own allocator serves the processes that are started here."""
    other = ("tcmalloc", "jemalloc", "mimalloc")
    loaded = os.environ.get("LD_PRELOAD", "")
    return platform.libc_ver()[0] == "glibc" and not any(name in loaded for name in other)


@lru_cache(maxsize=1)
def cpu_computes_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the CPU has matrix units for bfloat16, as torch checks it."""
    try:
        flags = Path(cpuinfo).read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_tile" in flags


@lru_cache(maxsize=1)
def machine_key() -> str:
    """The identity of this machine for measurements."""
    return f"{describe_device()} / {cpu_model()} / {cpu_count()}"
