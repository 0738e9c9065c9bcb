"""The memory and the measured training speed of this machine, without torch.

The device is the one that ``studio.system.device`` decides on. Free memory is read again after ``FRESH_S``
seconds. Speeds are always measured, by an earlier run or by a probe.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, replace
from functools import lru_cache

from studio.graph.graph import Graph
from studio.system.device import AUTO, Device, auto_precision, current, wanted_device
from studio.system.hardware import cpu_count, cpu_model
from studio.values import DType

FRESH_S = 5.0
FRAMEWORK = {"cpu": 620 * 10**6, "cuda": 600 * 10**6}
"Bytes in use before a model is loaded: on a CPU Python with torch, transformers and "
"PEFT\n(measured, see docs/estimate.md), on a GPU the context and the workspace of its libraries."


@dataclass(frozen=True)
class Machine:
    """The device that trains. ``available`` are bytes that a run may take; ``bfloat16`` whether it computes
    in that precision; ``fragments`` whether freed tensors fragment the heap, as with glibc. ``wanted`` is
    what the Train nodes name, ``free_known`` whether the driver reports the free memory."""

    name: str
    device: str
    available: int
    total: int
    bfloat16: bool
    framework: int
    cores: int = 1
    fragments: bool = False
    wanted: str = AUTO
    free_known: bool = True

    @property
    def auto_dtype(self) -> DType:
        """The precision that Auto takes."""
        return auto_precision(self.device, self.bfloat16)


def this_machine(graph: Graph | None = None) -> Machine:
    """The current state of this machine, with the device that the Train nodes of a project name."""
    wanted = wanted_in(graph)
    return _machine(current(wanted), wanted, int(time.monotonic() / FRESH_S))


def wanted_in(graph: Graph | None) -> str:
    """The device that the Train nodes of a project name."""
    return wanted_device((n.type, n.settings) for n in (graph.nodes if graph is not None else ()))


@lru_cache(maxsize=2)
def _machine(device: Device, wanted: str, moment: int) -> Machine:
    del moment
    free = device.free()
    available = device.total if free is None else free
    found = Machine(
        device.label,
        device.kind,
        available,
        device.total,
        bool(device.bfloat16),
        FRAMEWORK[device.kind],
        wanted=wanted,
        free_known=free is not None,
    )
    if device.kind == "cuda":
        return found
    return replace(found, cores=cpu_count(), fragments=allocator_fragments())


@lru_cache(maxsize=1)
def allocator_fragments() -> bool:
    """Whether glibc's own allocator serves the processes that are started here."""
    other = ("tcmalloc", "jemalloc", "mimalloc")
    loaded = os.environ.get("LD_PRELOAD", "")
    return platform.libc_ver()[0] == "glibc" and not any(name in loaded for name in other)


def machine_key(name: str) -> str:
    """The identity of this machine for measurements; ``name`` is that of the device (``Machine.name``)."""
    return f"{name} / {cpu_model()} / {cpu_count()}"
