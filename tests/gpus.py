"""Computers with NVIDIA cards, for tests: a fake NVML and a fake torch that see the same cards.

Each fake has the order of the real library: NVML counts the cards by their place on the bus, CUDA those
that ``CUDA_VISIBLE_DEVICES`` leaves, as torch's own parser reads it. What they return and raise is what the
installed ``pynvml`` and ``torch.cuda`` return and raise, read in their sources.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.estimate import machine
from studio.system import device, hardware, torch_report
from studio.system.torch_report import Build, TorchReport, read_torch

GIB = 2**30
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). Please "
    "update your GPU driver (Triggered internally at CUDAFunctions.cpp:119.)"
)


@dataclass(frozen=True)
class Card:
    """One card. ``bus`` is its place; ``parts`` are names, UUIDs and GiB of its MIG instances. Without
    ``readable`` the driver does not report its memory."""

    name: str
    bus: int
    gib: float
    used: float = 1.0
    capability: tuple[int, int] = (8, 9)
    readable: bool = True
    shared: bool = False
    parts: tuple[tuple[str, str, float], ...] = ()

    @property
    def uuid(self) -> str:
        """Its UUID without prefix."""
        return f"{self.bus:08x}-0000-4000-8000-000000000000"


ADA = Card("NVIDIA L4", 0x41, 22.0, used=2.0)
AMPERE = Card("NVIDIA RTX A2000", 0x01, 6.0, used=0.5, capability=(8, 6))
TURING = Card("Tesla T4", 0x02, 15.0, capability=(7, 5))
PASCAL = Card("NVIDIA GeForce GTX 1080", 0x03, 8.0, capability=(6, 1))
SPARK = Card("NVIDIA GB10", 0x0F, 119.0, capability=(12, 1), readable=False, shared=True)
MIG = Card(
    "NVIDIA A100-SXM4-40GB",
    0x07,
    40.0,
    capability=(8, 0),
    readable=False,
    parts=(
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "aaaaaaaa-0000-4000-8000-000000000001", 4.75),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "bbbbbbbb-0000-4000-8000-000000000002", 19.5),
    ),
)


@dataclass
class Computer:
    """What the fakes see. ``cards`` are in CUDA's order; ``supports`` is the CUDA of the driver; without
    ``nvml`` its library cannot be loaded. ``asked`` counts the processes that asked torch."""

    cards: list[Card] = field(default_factory=list)
    build: Build = field(default_factory=lambda: Build("2.13.0+cu130", "13.0", None))
    driver: str = "580.95.05"
    supports: tuple[int, int] = (13, 0)
    nvml: bool = True
    archs: tuple[str, ...] = CUDA_13
    broken: str = ""
    new_torch: bool = True
    asked: int = 0

    def torch(self) -> Any:
        """The fake torch of a process that starts now."""
        return fake_torch(self)

    def report(self) -> TorchReport:
        """What the process that asks torch answers."""
        self.asked += 1
        if self.broken:
            return TorchReport(error=self.broken)
        return read_torch(self.torch())


class NVMLError(Exception):
    """As in pynvml."""


class NotSupported(NVMLError):
    """As in pynvml."""


class Nvml:
    """The functions of pynvml that the program calls."""

    NVMLError = NVMLError

    def __init__(self, computer: Computer) -> None:
        self._computer = computer

    def _cards(self) -> list[Card]:
        return sorted(self._computer.cards, key=lambda card: card.bus)

    def nvmlInit(self) -> None:
        if not self._computer.nvml:
            raise NVMLError("NVML Shared Library Not Found")

    def nvmlShutdown(self) -> None:
        pass

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._computer.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        major, minor = self._computer.supports
        return 1000 * major + 10 * minor

    def nvmlDeviceGetCount(self) -> int:
        return len(self._cards())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[Card, int | None]:
        return self._cards()[index], None

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        if handle[0].capability < (8, 0):
            raise NotSupported
        return [int(bool(handle[0].parts)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:
        if index >= len(handle[0].parts):
            raise NVMLError("Not Found")
        return handle[0], index

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        card, part = handle
        return (card.name if part is None else card.parts[part][0]).encode()

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        card, part = handle
        return f"GPU-{card.uuid}" if part is None else f"MIG-{card.parts[part][1]}"

    def nvmlDeviceGetPciInfo(self, handle: Any) -> Any:
        return SimpleNamespace(domain=0, bus=handle[0].bus, device=0)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:
        return handle[0].capability

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        card, part = handle
        if part is not None:
            return SimpleNamespace(total=int(card.parts[part][2] * GIB), used=GIB // 4)
        if not card.readable:
            raise NotSupported
        return SimpleNamespace(total=int(card.gib * GIB), used=int(card.used * GIB))


@dataclass(frozen=True)
class _Seen:
    """A device as CUDA lists it: a card or an instance."""

    card: Card
    name: str
    uuid: str
    gib: float


def _seen(cards: list[Card]) -> list[_Seen]:
    """What CUDA uses; of a card in MIG mode its first instance."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    whole = [
        _Seen(
            c,
            *(c.parts[0][:2] if c.parts else (c.name, c.uuid)),
            c.parts[0][2] if c.parts else c.gib,
        )
        for c in cards
    ]
    parts = [_Seen(c, *part) for c in cards for part in c.parts]
    if wanted is None:
        return whole
    found: list[_Seen] = []
    entries = [entry.strip() for entry in wanted.split(",")]
    for number, name in enumerate(entries):
        if name in entries[:number]:
            return []
        if name.startswith(("GPU-", "MIG-")):
            each = whole if name.startswith("GPU-") else parts
            one = next((s for s in each if s.uuid.startswith(name[4:])), None)
        else:
            one = whole[int(name)] if name.isdigit() and int(name) < len(whole) else None
        if one is None:
            break
        found.append(one)
    return found


def fake_torch(computer: Computer) -> Any:
    """A torch of this computer, in the environment of now."""
    build = computer.build
    works = build.cuda is not None and computer.supports[0] >= int(build.cuda.partition(".")[0])
    seen = _seen(computer.cards) if works else []

    def is_available() -> bool:
        if build.cuda is not None and not works:
            warnings.warn(OLD_DRIVER, stacklevel=2)
        return bool(seen)

    def properties(index: int) -> Any:
        one = seen[index]
        place = {"pci_domain_id": 0, "pci_bus_id": one.card.bus, "pci_device_id": 0}
        return SimpleNamespace(
            name=one.name,
            total_memory=int(one.gib * GIB),
            major=one.card.capability[0],
            minor=one.card.capability[1],
            uuid=one.uuid,
            is_integrated=int(one.card.shared),
            **(place if computer.new_torch else {}),
        )

    cuda = SimpleNamespace(
        get_arch_list=lambda: list(computer.archs) if build.cuda else [],
        is_available=is_available,
        init=lambda: None,
        device_count=lambda: len(seen),
        get_device_properties=properties,
    )
    return SimpleNamespace(
        __version__=build.version,
        version=SimpleNamespace(cuda=build.cuda, hip=build.hip),
        backends=SimpleNamespace(mps=None),
        cpu=SimpleNamespace(),
        get_num_threads=lambda: 2,
        cuda=cuda,
    )


Install = Callable[..., Computer]


def install(monkeypatch: pytest.MonkeyPatch, home: Path, **facts: Any) -> Computer:
    """Make this process one on a computer with these facts; nothing is cached from before."""
    computer = Computer(**facts)
    monkeypatch.setenv("LORA_STUDIO_HOME", str(home))
    monkeypatch.delenv("LORA_STUDIO_CACHE", raising=False)
    for name in torch_report.VARIABLES[:-1]:
        monkeypatch.setenv(name, "")  # so that what the program sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(computer))
    monkeypatch.setattr(torch_report, "installed", lambda: computer.build)
    monkeypatch.setattr(torch_report, "_run", computer.report)
    monkeypatch.setattr(torch_report, "_answers", {})
    monkeypatch.setattr(hardware, "_listing", ((), hardware.Driver()))
    monkeypatch.setattr(device, "_used", None)
    machine._machine.cache_clear()
    return computer


@pytest.fixture
def computer_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Installs a computer, and asks its torch unless ``ask`` is False."""

    def make(*cards: Card, ask: bool = True, **facts: Any) -> Computer:
        computer = install(monkeypatch, tmp_path / "home", cards=list(cards), **facts)
        if ask:
            torch_report.ask()
        return computer

    yield make
    machine._machine.cache_clear()
