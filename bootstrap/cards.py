"""The NVIDIA driver of this machine and the compute capability of its cards.

Why: they decide which build of torch can use a card. `nvidia-smi` is asked first, then NVML (the driver's
library, in a child process, because a broken driver can hang or crash whoever loads it). Old versions of
`nvidia-smi` do not know compute capabilities, and containers may lack either. Neither means "no card".

It must not import anything but the standard library: `.venv` may not exist yet, and this file is also run as a
script.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_S = 15.0
_WSL = Path("/usr/lib/wsl/lib")


@dataclass(frozen=True)
class Card:
    """One card; the capability is None where neither tool reports it."""

    name: str
    capability: tuple[int, int] | None


@dataclass(frozen=True)
class Driver:
    """The driver and its cards; the version is empty where it is not known."""

    version: str = ""
    cards: tuple[Card, ...] = ()

    def at_least(self, version: tuple[int, ...]) -> bool:
        """Whether the driver is this new; one of unknown version counts as new."""
        return not self.version or _numbers(self.version) >= version


NONE = Driver()
UNKNOWN = Driver("", (Card("the NVIDIA card", None),))
"""A driver is installed but did not answer in time."""


def installed(environment: Mapping[str, str] = os.environ) -> Driver:
    """The driver and cards of this machine; `NONE` without a card or a working driver."""
    tool = _nvidia_smi(environment)
    answer = _from_tool(tool, "name,compute_cap,driver_version") if tool else None
    if answer is UNKNOWN or (answer and answer.cards):
        return answer
    answer = _from_nvml()
    if answer.cards or not tool:
        return answer
    return _from_tool(tool, "name,driver_version") or NONE


def _nvidia_smi(environment: Mapping[str, str]) -> str:
    root = Path(environment.get("SYSTEMROOT", r"C:\Windows"))
    places = [
        shutil.which("nvidia-smi", path=environment.get("PATH")),
        root / "System32" / "nvidia-smi.exe",
        _WSL / "nvidia-smi",
    ]
    return next((str(place) for place in places if place and Path(place).is_file()), "")


def _from_tool(tool: str, fields: str) -> Driver | None:
    answer = _run([tool, f"--query-gpu={fields}", "--format=csv,noheader"])
    if answer is None:
        return UNKNOWN
    return from_csv(answer, fields.split(",")) if answer else None


def _from_nvml() -> Driver:
    # A script of its own: -P keeps this folder off the path of the child.
    answer = _run([sys.executable, "-P", str(Path(__file__).resolve())])
    if answer is None:
        return UNKNOWN
    try:
        read = json.loads(answer)
        cards = tuple(Card(name, tuple(at) if at else None) for name, at in read["cards"])
        return Driver(read["version"], cards)
    except (ValueError, KeyError, TypeError):
        return NONE


def _run(command: Sequence[str]) -> str | None:
    """The output of a command, empty if it failed, None if it did not answer in time."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def from_csv(text: str, fields: Sequence[str]) -> Driver:
    """What `nvidia-smi --query-gpu=... --format=csv,noheader` printed: a line for each card."""
    version, cards = "", []
    for line in text.splitlines():
        cells = dict(
            zip(fields, (cell.strip() for cell in line.rsplit(",", len(fields) - 1)), strict=False)
        )
        if len(cells) < len(fields):
            continue
        found = re.fullmatch(r"(\d+)\.(\d+)", cells.get("compute_cap", ""))
        capability = (int(found.group(1)), int(found.group(2))) if found else None
        cards.append(Card(cells["name"], capability))
        version = version or (cells["driver_version"] if _numbers(cells["driver_version"]) else "")
    return Driver(version, tuple(cards))


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


# ---------------------------------------------------------------- NVML


def _nvml() -> Any:
    names = ["libnvidia-ml.so.1", str(_WSL / "libnvidia-ml.so.1")]
    if sys.platform == "win32":
        root = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"))
        names = [str(root / "System32" / "nvml.dll")]
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def read_nvml(load: Callable[[], Any] = _nvml) -> Driver:
    """Driver and cards according to NVML; `NONE` where it is missing or refuses."""
    library = load()
    if library is None or library.nvmlInit_v2() != 0:
        return NONE
    text, count = ctypes.create_string_buffer(96), ctypes.c_uint()
    version = (
        ""
        if library.nvmlSystemGetDriverVersion(text, 96)
        else text.value.decode("ascii", "replace")
    )
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    cards = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue  # a card that has failed hides no other
        named = library.nvmlDeviceGetName(handle, text, 96) == 0
        name = text.value.decode("utf-8", "replace") if named else f"NVIDIA card {index}"
        major, minor = ctypes.c_int(), ctypes.c_int()
        failed = library.nvmlDeviceGetCudaComputeCapability(
            handle, ctypes.byref(major), ctypes.byref(minor)
        )
        cards.append(Card(name, None if failed else (major.value, minor.value)))
    library.nvmlShutdown()
    return Driver(version, tuple(cards))


# ---------------------------------------------------------------- what may have changed


def signature(proc: Path = Path("/proc/driver/nvidia"), wsl: Path = _WSL) -> str:
    """A text that changes with the driver and the cards, from files alone: for a check at every start."""
    if sys.platform == "win32":
        root = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        return "; ".join(filter(None, [_stamp(root / "nvcuda.dll"), *_pci_cards()]))
    try:
        version = (
            (proc / "version").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        )
        cards = sorted(os.listdir(proc / "gpus"))
    except OSError:
        return _stamp(wsl / "libcuda.so.1")
    return "; ".join([version.strip(), *cards])


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{path.name} {found.st_size} {found.st_mtime_ns}"


def _pci_cards() -> list[str]:
    """NVIDIA devices that Windows has ever enumerated; a new card adds one."""
    if sys.platform != "win32":
        return []
    import winreg

    found = []
    try:
        with winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Enum\PCI"
        ) as devices:
            for index in range(winreg.QueryInfoKey(devices)[0]):
                name = winreg.EnumKey(devices, index)
                if name.upper().startswith("VEN_10DE"):
                    found.append(name)
    except OSError:
        return found
    return sorted(found)


if __name__ == "__main__":
    answer = read_nvml()
    print(
        json.dumps(
            {"version": answer.version, "cards": [(c.name, c.capability) for c in answer.cards]}
        )
    )
