"""Decides which device trains, from what torch reports (``torch_report``): the only place that does.

The window, the estimate, the recipe, ``check``, ``doctor`` and the run show this decision. A run uses one
device: its host hides every other GPU from torch before torch is loaded, so that every library computes on
the same one. Training uses one NVIDIA GPU or the CPU. Apple GPUs and ROCm builds of torch are not used:
bitsandbytes, autocast and exact resume are not verified there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import psutil

from bootstrap.platforms import RUNTIME_HINT, is_old_runtime
from studio.errors import StudioError
from studio.shown_text import short
from studio.system import hardware, torch_report
from studio.system.hardware import GIB, Driver, Gpu
from studio.system.torch_report import TorchGpu, TorchReport

AUTO, CPU = "auto", "cpu"
HIDE_ALL = "-1"
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_LEAST_DRIVER = {12: "525", 13: "580"}
"""The oldest driver for each major version of CUDA, from NVIDIA's table of compatibility."""
_LEAST_CAPABILITY = (5, 0)
"""Of the builds of torch that are offered, the one for CUDA 12.6 has code for the oldest GPUs."""
_INSTALL = (
    "The environment variable LORA_STUDIO_TORCH=auto at the next start installs the build of torch for this "
    "GPU and its driver, if there is one."
)
CHECKING = "Checking the GPU…"


@dataclass(frozen=True)
class Device:
    """The device that trains. ``name`` is its value in the Train node, ``label`` is shown to the user.
    ``bfloat16`` is whether it computes in bfloat16 without emulation; ``None`` if torch was not asked. Memory
    in bytes: ``shared`` if it is that of the CPU."""

    kind: Literal["cpu", "cuda"]
    name: str
    label: str
    bfloat16: bool | None
    total: int
    gpu: TorchGpu | None = None
    shared: bool = False

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability of a GPU, (0, 0) of a CPU."""
        return self.gpu.capability if self.gpu is not None else (0, 0)

    def free(self) -> int | None:
        """The memory that programs can still take; ``None`` if the driver does not report it."""
        if self.gpu is None or self.shared:
            return min(self.total, int(psutil.virtual_memory().available))
        card = card_of(self.gpu, hardware.gpus())
        if card is None or card.used_gib is None or card.total_gib is None:
            return None
        return int((card.total_gib - card.used_gib) * GIB)

    def used(self) -> int | None:
        """The memory of a GPU that all programs use together, as its driver reports it."""
        card = card_of(self.gpu, hardware.gpus()) if self.gpu is not None else None
        return int(card.used_gib * GIB) if card is not None and card.used_gib is not None else None


@dataclass(frozen=True)
class Unused:
    """Why a GPU, or all of them, cannot train, and what to do."""

    sentence: str
    hint: str = ""
    code: str = "gpu_not_used"


@dataclass(frozen=True)
class _Why:
    reason: str
    hint: str
    code: str = "gpu_not_used"


# ------------------------------------------------------------------ the decision


def auto_precision(kind: str, bfloat16: bool) -> Literal["bfloat16", "float16", "float32"]:
    """The precision that Auto takes on a device of this kind: bfloat16 where it computes in it, float16 with
    loss scaling on other GPUs, float32 on other CPUs."""
    if bfloat16:
        return "bfloat16"
    return "float16" if kind == "cuda" else "float32"


def choose(report: TorchReport, wanted: str = AUTO) -> Device:
    """The device for a training. Raises ``StudioError`` if the wanted one cannot be used."""
    named = names(report)
    usable = {name: gpu for name, gpu in named.items() if gpu.kernels}
    if wanted == CPU:
        return _cpu(report)
    if wanted == AUTO:
        first = next(iter(usable.items()), None)
        return _gpu(*first) if first is not None else _cpu(report)
    name = next((n for n, gpu in named.items() if _is_wanted(wanted, n, gpu)), None)
    if name in usable:
        return _gpu(name, usable[name])
    raise _unusable(report, wanted, named.get(name) if name is not None else None, list(usable))


def names(report: TorchReport) -> dict[str, TorchGpu]:
    """The GPUs that torch sees, in its order, by their values in the Train node: a second one of the same
    kind ends in #2. They are counted by their place on the bus, which no variable changes."""
    cards, found = hardware.listed_gpus(), dict[str, TorchGpu]()
    numbers = _numbers(cards)
    for gpu in sorted(_gpus(report), key=lambda g: (g.pci, g.uuid, g.index)):
        card = card_of(gpu, cards)
        count = numbers[card] if card is not None else 1
        while (name := _numbered(gpu.name, count)) in found:
            count += 1
        found[name] = gpu
    return dict(sorted(found.items(), key=lambda item: item[1].index))


def _numbers(cards: Iterable[Gpu]) -> dict[Gpu, int]:
    """The number of each card among those of the same kind, by their place on the bus."""
    found: dict[Gpu, int] = {}
    each = (part for card in cards for part in (card, *card.parts))
    for card in sorted(each, key=lambda c: (c.pci, c.uuid)):
        found[card] = 1 + sum(other.name == card.name for other in found)
    return found


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"


def _gpus(report: TorchReport) -> tuple[TorchGpu, ...]:
    return () if report.hip is not None or report.error else report.gpus


def _is_wanted(wanted: str, name: str, gpu: TorchGpu) -> bool:
    plain = hardware.plain_uuid(wanted)
    return name.lower() == wanted.strip().lower() or bool(gpu.uuid and gpu.uuid == plain)


def _cpu(report: TorchReport) -> Device:
    label = hardware.describe_cpu()
    if report.mps:
        label += " (the Apple GPU is not used)"
    total = int(hardware.ram_total_gib() * GIB)
    return Device("cpu", CPU, label, report.cpu_bfloat16, total)


def _gpu(name: str, gpu: TorchGpu) -> Device:
    label = f"{name}, {gpu.total / GIB:.0f} GiB"
    return Device("cuda", name, label, gpu.bfloat16, gpu.total, gpu, gpu.shared)


def _unusable(
    report: TorchReport, wanted: str, gpu: TorchGpu | None, usable: list[str]
) -> StudioError:
    listed = [card for card in hardware.listed_gpus() if _lists(card, wanted)]
    offered = f"Choose one of: {', '.join([AUTO, *usable, CPU])}."
    if gpu is not None:
        name, why = gpu.name, _without_kernels(report, gpu)
    elif listed:
        name, why = listed[0].name, _why_not_seen(report, listed)
    else:
        return StudioError(
            f"this computer has no device “{short(wanted)}” that torch can use.",
            title="The device is not available",
            hint=offered,
            field="device",
            code="no_such_device",
        )
    return StudioError(
        f"{name} cannot be used: {why.reason}.",
        title="The device is not available",
        hint=f"{offered} {why.hint}",
        field="device",
        code=why.code,
    )


def _lists(card: Gpu, wanted: str) -> bool:
    """Whether the driver lists the wanted device, although torch does not see it."""
    numbers = _numbers(hardware.listed_gpus())
    each = [p for p in (card, *card.parts) if p in numbers]
    named = {p.uuid for p in each} | {_numbered(p.name, numbers[p]).lower() for p in each}
    return hardware.plain_uuid(wanted) in named


def card_of(gpu: TorchGpu, cards: Iterable[Gpu]) -> Gpu | None:
    """The card, or the instance of a card, that NVML lists for a GPU of torch. An index says nothing: the
    orders differ, and CUDA_VISIBLE_DEVICES changes that of torch."""
    cards = list(cards)
    each = [part for card in cards for part in (card, *card.parts)]
    found = next((c for c in each if c.uuid and c.uuid == gpu.uuid), None)
    if found is None and gpu.pci:  # all instances of a card have its place on the bus
        found = next((c for c in cards if c.pci == gpu.pci and not c.parts), None)
    if found is None and not gpu.uuid and not gpu.pci and len(each) == 1:
        found = each[0]
    return found


# ------------------------------------------------------------------ what is not used, and why


def unused(report: TorchReport, wanted: str = AUTO) -> Unused | None:
    """Why this computer's GPU does not train although the project does not ask for the CPU; ``None`` if a
    GPU trains, or if there is none."""
    if wanted != AUTO:
        return None
    if report.error:
        return Unused(
            f"torch cannot be loaded: {report.error.rstrip('.')}.",
            RUNTIME_HINT
            if is_old_runtime(report.error)
            else "Delete the folder .venv and start the program again, which installs everything.",
            "torch_unusable",
        )
    if report.hip is not None:
        return Unused(
            f"the installed torch is a build for AMD GPUs (ROCm {report.hip}), which training does not "
            "support: it uses the CPU.",
            "If this is intended, select the CPU as Device in the Train node.",
        )
    if any(gpu.kernels for gpu in report.gpus):
        return None
    cards = hardware.listed_gpus()
    if report.gpus:
        name, why = report.gpus[0].name, _without_kernels(report, report.gpus[0])
    elif cards or "too old" in report.reason:  # torch's word for a driver, where NVML is missing
        name, why = cards[0].name if cards else "The GPU", _why_not_seen(report, cards)
    else:
        return None
    return Unused(f"{name} is not used: {why.reason}. Training uses the CPU.", why.hint, why.code)


def _why_not_seen(report: TorchReport, cards: list[Gpu]) -> _Why:
    """Why torch sees none of these cards, which the driver lists."""
    driver = hardware.driver()
    if report.cuda is None:
        return _why_cpu_build(report, cards, driver)
    if report.visible is not None and (report.gpus or _hides(report.visible, cards)):
        return _Why(
            f"the environment variable CUDA_VISIBLE_DEVICES is “{short(report.visible)}”, which hides it",
            "Remove the variable and start the program again.",
        )
    needed = int(report.cuda.partition(".")[0]) if report.cuda.partition(".")[0].isdigit() else 0
    if driver.cuda != (0, 0) and driver.cuda[0] < needed:
        least = _LEAST_DRIVER.get(needed)
        install = f"Install NVIDIA driver {least} or newer" if least else "Install a newer driver"
        return _Why(
            f"its driver {driver.version} supports CUDA {driver.cuda[0]}.{driver.cuda[1]}, and the "
            f"installed torch {report.version} needs CUDA {report.cuda}",
            f"{install} and restart the computer. {_INSTALL}",
        )
    return _Why(
        f"torch reports: {report.reason.rstrip('.')}" if report.reason else "torch does not see it",
        "Restart the computer. If that does not help, install the newest NVIDIA driver.",
    )


def _why_cpu_build(report: TorchReport, cards: list[Gpu], driver: Driver) -> _Why:
    """A build for CPUs is the right one for a card or a driver that no CUDA build supports."""
    capability = next((c.capability for c in cards if c.capability is not None), _LEAST_CAPABILITY)
    if capability < _LEAST_CAPABILITY:
        own = ".".join(map(str, capability))
        return _Why(f"it has compute capability {own}, which torch does not support", "")
    least = min(_LEAST_DRIVER)
    if (0, 0) < driver.cuda < (least, 0):
        return _Why(
            f"its driver {driver.version} is too old for any build of torch",
            f"Install NVIDIA driver {_LEAST_DRIVER[least]} or newer, restart the computer and start the "
            "program again.",
        )
    return _Why(f"the installed torch {report.version} is a build for CPUs", _INSTALL)


def _hides(visible: str, cards: list[Gpu]) -> bool:
    """Whether a CUDA_VISIBLE_DEVICES leaves none of these cards: CUDA ends the list at the first entry
    that names none, reads a number from the beginning of an entry, and uses no card if one is repeated."""
    entries = [entry.strip() for entry in visible.split(",")]
    first = entries[0]
    if first in entries[1:]:
        return True
    if first.startswith(("GPU-", "MIG-")):
        asked = hardware.plain_uuid(first)
        each = [part for card in cards for part in (card, *card.parts)]
        return not any(c.uuid.startswith(asked) for c in each if c.uuid)
    number = "".join(_digits(first))
    return not number or int(number) >= len(hardware.listed_gpus())


def _digits(text: str) -> Iterable[str]:
    for letter in text:
        if not letter.isdecimal():
            return
        yield letter


def _without_kernels(report: TorchReport, gpu: TorchGpu) -> _Why:
    own = ".".join(map(str, gpu.capability))
    return _Why(
        f"it has compute capability {own}, and the installed torch {report.version} has code only for "
        f"{_spoken(report.archs)}",
        _INSTALL,
        "gpu_unsupported",
    )


def _spoken(archs: Iterable[str]) -> str:
    """Compute capabilities in words: sm_75, sm_120 as 7.5, 12.0."""
    found = dict.fromkeys(a.partition("_")[2] for a in archs)
    numbers = [a.rstrip("af") for a in found]
    return ", ".join(dict.fromkeys(f"{n[:-1]}.{n[-1]}" for n in numbers if n.isdigit()))


# ------------------------------------------------------------------ of this process

_used: tuple[Device, Unused | None] | None = None
"""The device of the run that this process executes."""


def wanted_device(settings: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The device that the Train nodes of a project name, from the type and settings of each node: a run
    uses one device."""
    named = (
        str(values.get("device") or AUTO).strip() for kind, values in settings if kind == "train"
    )
    plain = (name.lower() if name.lower() in (AUTO, CPU) else name for name in named)
    return next((name for name in plain if name != AUTO), AUTO)


def current(wanted: str = AUTO) -> Device:
    """The device as far as it is known, without asking torch and without an error: until torch was asked
    the driver's first GPU is assumed, and for a device that cannot be used the automatic choice is
    given."""
    if _used is not None:
        return _used[0]
    report = torch_report.known()
    if report is None:
        return _assumed(wanted)
    try:
        return choose(report, wanted)
    except StudioError:
        return choose(report)


def _assumed(wanted: str) -> Device:
    cards = hardware.listed_gpus() if wanted != CPU else []
    card = next((c for c in cards if c.total_gib), None)
    if card is None:
        cpu = _cpu(TorchReport(cpu_bfloat16=hardware.cpu_computes_bfloat16()))
        return cpu if wanted == CPU else replace(cpu, label=CHECKING)
    gpu = TorchGpu(
        card.index,
        card.name,
        int((card.total_gib or 0) * GIB),
        card.capability or torch_report.NATIVE_BFLOAT16,
        card.uuid,
        card.pci,
    )
    return Device("cuda", card.name, CHECKING, gpu.bfloat16, gpu.total, gpu)


def why_unused(wanted: str = AUTO) -> Unused | None:
    """Why a GPU of this computer is not used, as far as it is known without asking torch."""
    if _used is not None:
        return _used[1]
    report = torch_report.known()
    return unused(report, wanted) if report is not None else None


def use(wanted: str, *, hide: bool = True) -> Device:
    """Decide on the device of this process, and hide all other GPUs from it, before torch is loaded. A
    process that is not only there for one run hides none. Asks torch in a process of its own if
    necessary. Raises ``StudioError`` if the wanted device cannot be used."""
    global _used
    report = torch_report.ask()
    device, why = choose(report, wanted), unused(report, wanted)
    if hide and device.gpu is not None and len(report.gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = _address(device.gpu, report)
        device = replace(device, gpu=replace(device.gpu, index=0))
    elif hide and device.gpu is None:  # also a GPU that torch did not see when it was asked
        for name in _VISIBLE:
            os.environ[name] = HIDE_ALL
    _used = device, why
    return device


def release() -> None:
    """The run of this process has ended: the device is decided anew."""
    global _used
    _used = None


def _address(gpu: TorchGpu, report: TorchReport) -> str:
    """A GPU as CUDA_VISIBLE_DEVICES names it."""
    entries = [entry.strip() for entry in (report.visible or "").split(",") if entry.strip()]
    if gpu.index < len(entries):
        return entries[gpu.index]
    if gpu.uuid:
        return f"{'MIG' if ' MIG ' in gpu.name else 'GPU'}-{gpu.uuid}"
    return str(gpu.index)


def chosen() -> Device | None:
    """The device that ``use`` decided on in this process."""
    return _used[0] if _used is not None else None
