"""The hardware of this computer, found without torch: CPU, memory, and the GPUs of NVIDIA's driver.

A driver that is missing or broken means "no GPU", never an error. NVML numbers the GPUs by their place
on the bus, CUDA by speed and by ``CUDA_VISIBLE_DEVICES``: an index of one means nothing to the other.
Which device trains is decided in ``studio.system.device``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

GIB = 2**30
FEW_CORES = 4
"""Up to as many cores, a run uses all of them: with two, one core less halves its speed."""


@dataclass(frozen=True)
class Gpu:
    """One graphics card as NVML lists it; memory in GiB, ``None`` where the driver does not report it,
    as with memory that is shared with the CPU.

    ``parts`` are the instances of a card in MIG mode, which CUDA uses in place of the card. ``uuid`` has
    no prefix, ``pci`` is domain, bus and device.
    """

    index: int
    name: str
    total_gib: float | None
    used_gib: float | None
    uuid: str = ""
    pci: str = ""
    capability: tuple[int, int] | None = None
    parts: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver: its version and the newest CUDA that it supports; empty and (0, 0) if unknown."""

    version: str = ""
    cuda: tuple[int, int] = (0, 0)


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
    """Threads that a new run computes with: those that ``OMP_NUM_THREADS`` asks for, else all cores, or
    all but one where ``leave_core`` is set and there are more than ``FEW_CORES``."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    cores = cpu_count()
    return cores - 1 if leave_core and cores > FEW_CORES else cores


def ram_total_gib() -> float:
    """Installed memory."""
    return round(float(psutil.virtual_memory().total) / GIB, 2)


def ram_free_gib() -> float:
    """Memory that is available to programs."""
    return round(float(psutil.virtual_memory().available) / GIB, 2)


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The library of the driver, or ``None``."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no library, or another version of it
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that the driver lists. What it does not report of one card hides no other."""
    with _nvml() as nvml:
        if nvml is None:
            return []
        found = (_gpu(nvml, i) for i in range(_asked(nvml, nvml.nvmlDeviceGetCount) or 0))
        return [card for card in found if card is not None]


_listing: tuple[tuple[Gpu, ...], Driver] = ((), Driver())


def look() -> None:
    """List the GPUs for ``listed_gpus`` and ``driver``. A card in standby may take a second to answer, so
    that the window does this in the background."""
    global _listing
    _listing = tuple(gpus()), _driver()


def listed_gpus() -> list[Gpu]:
    """The GPUs at the last ``look``, for whom their memory does not matter; none before the first."""
    return list(_listing[0])


def driver() -> Driver:
    """The driver of the NVIDIA GPUs at the last ``look``."""
    return _listing[1]


def _driver() -> Driver:
    with _nvml() as nvml:
        if nvml is None:
            return Driver()
        version = _asked(nvml, nvml.nvmlSystemGetDriverVersion)
        cuda = _asked(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2) or 0
        return Driver(_text(version), (cuda // 1000, cuda % 1000 // 10))


def _asked(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """A reading of NVML, or ``None`` if this card or driver does not have it."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _gpu(nvml: Any, index: int) -> Gpu | None:
    handle = _asked(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:  # a card that is lost, or that another user owns
        return None
    mode = _asked(nvml, nvml.nvmlDeviceGetMigMode, handle) or [0]
    parts: list[Gpu] = []
    if mode[0]:
        for number in range(_asked(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            part = _asked(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
            if part is not None:
                parts.append(_read(nvml, part, number))
    return _read(nvml, handle, index, tuple(parts))


def _read(nvml: Any, handle: Any, index: int, parts: tuple[Gpu, ...] = ()) -> Gpu:
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    pci = _asked(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    capability = _asked(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        index,
        _text(_asked(nvml, nvml.nvmlDeviceGetName, handle)) or "NVIDIA GPU",
        round(memory.total / GIB, 2) if memory is not None else None,
        round(memory.used / GIB, 2) if memory is not None else None,
        plain_uuid(_text(_asked(nvml, nvml.nvmlDeviceGetUUID, handle))),
        pci_place(pci.domain, pci.bus, pci.device) if pci is not None else "",
        (int(capability[0]), int(capability[1])) if capability is not None else None,
        parts,
    )


def _text(given: Any) -> str:
    return given.decode(errors="replace") if isinstance(given, bytes) else str(given or "")


def plain_uuid(text: str) -> str:
    """The UUID of a GPU without its prefix, which NVML writes and CUDA does not."""
    text = text.strip().lower()
    return text[4:] if text.startswith(("gpu-", "mig-")) else text


def pci_place(domain: int, bus: int, device: int) -> str:
    """A place on the PCI bus as text."""
    return f"{domain:04x}:{bus:02x}:{device:02x}"


@lru_cache(maxsize=1)
def cpu_computes_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool | None:
    """Whether the CPU has matrix units for bfloat16, as torch checks it; ``None`` where only torch
    knows it."""
    try:
        flags = Path(cpuinfo).read_text(encoding="utf-8")
    except OSError:
        return None
    return "avx512_bf16" in flags or "amx_tile" in flags


def describe_cpu() -> str:
    """One line: the CPU and its cores."""
    cores = cpu_count()
    return f"{cpu_model()}, {cores} core{'s' if cores != 1 else ''}"
