"""What the installed torch reports about the devices of this computer.

The window does not load torch, so a small process asks it: ``python -m studio.system.torch_report``
prints the report as JSON. It runs in the environment of a run host, so that it sees the GPUs that a
training would see. The answer is cached until the driver, the GPUs, torch or a variable that selects
GPUs changes. For a build of torch without CUDA no process is needed to know that the CPU trains.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.system import busy_files, hardware, paths
from studio.system.children import NO_WINDOW, child_environment, end_with_us, module_command
from studio.system.stored_json import parse, read_regular, with_hash, without_hash

MODULE = "studio.system.torch_report"
TIMEOUT_S = 180.0
FAILED_FOR_S = 300.0
"""How long a report without a GPU is used: a driver that fails after standby works again after a restart,
without a new version."""
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "LD_LIBRARY_PATH",
)
NATIVE_BFLOAT16 = (8, 0)
"""The compute capability (Ampere) from which on GPUs compute in bfloat16; torch emulates it before."""


@dataclass(frozen=True)
class TorchGpu:
    """A GPU as torch numbers it; ``total`` in bytes. ``kernels`` is whether this build of torch has code
    for it, ``shared`` whether its memory is that of the CPU."""

    index: int
    name: str
    total: int
    capability: tuple[int, int] = (0, 0)
    uuid: str = ""
    pci: str = ""
    kernels: bool = True
    shared: bool = False

    @property
    def bfloat16(self) -> bool:
        """Whether it computes in bfloat16 without emulation."""
        return self.capability >= NATIVE_BFLOAT16


@dataclass(frozen=True)
class Build:
    """The installed build of torch: its version, and that of CUDA or of ROCm (``hip``) it is for."""

    version: str
    cuda: str | None
    hip: str | None
    place: str = ""


@dataclass(frozen=True)
class TorchReport:
    """``reason`` is torch's own sentence if it is built for CUDA and sees no GPU, ``error`` the reason why
    it cannot be loaded at all. ``visible`` is the CUDA_VISIBLE_DEVICES that it saw. ``cpu_bfloat16`` is
    ``None`` until torch was asked."""

    version: str = ""
    cuda: str | None = None
    hip: str | None = None
    gpus: tuple[TorchGpu, ...] = ()
    archs: tuple[str, ...] = ()
    reason: str = ""
    visible: str | None = None
    mps: bool = False
    cpu_bfloat16: bool | None = None
    threads: int | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


def report_from_json(data: Mapping[str, Any]) -> TorchReport:
    """A stored report; raises ``TypeError``, ``ValueError``, ``KeyError`` or ``AttributeError`` for
    anything else."""
    gpus = tuple(
        TorchGpu(**{**gpu, "capability": (int(gpu["capability"][0]), int(gpu["capability"][1]))})
        for gpu in data["gpus"]
    )
    return TorchReport(**{**data, "gpus": gpus, "archs": tuple(data["archs"])})


# ------------------------------------------------------------------ from torch itself


def read_torch(torch: Any) -> TorchReport:
    """The report of a loaded torch. Initializes CUDA in this process."""
    report = TorchReport(
        str(torch.__version__),
        torch.version.cuda,
        torch.version.hip,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        mps=bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available()),
        cpu_bfloat16=_cpu_bfloat16(torch),
        threads=int(torch.get_num_threads()),
    )
    if report.cuda is None or report.hip is not None:
        return report
    archs = tuple(torch.cuda.get_arch_list())
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            seen = bool(torch.cuda.is_available())
            if seen:
                torch.cuda.init()
            gpus = tuple(
                _gpu(torch, i, archs) for i in range(torch.cuda.device_count() if seen else 0)
            )
        except Exception as error:  # the driver may fail in any way
            return replace(report, archs=archs, reason=_first_line(error))
    reason = "" if gpus or not heard else _first_line(heard[0].message)
    return replace(report, archs=archs, gpus=gpus, reason=reason)


def _first_line(given: object) -> str:
    """torch appends an internal place in its source to each message."""
    return str(given).partition("(Triggered internally")[0].strip().partition("\n")[0]


def _gpu(torch: Any, index: int, archs: tuple[str, ...]) -> TorchGpu:
    found = torch.cuda.get_device_properties(index)
    capability = (int(found.major), int(found.minor))
    place = [getattr(found, f"pci_{part}_id", -1) for part in ("domain", "bus", "device")]
    return TorchGpu(
        index,
        str(found.name),
        int(found.total_memory),
        capability,
        hardware.plain_uuid(str(getattr(found, "uuid", ""))),
        hardware.pci_place(*map(int, place)) if -1 not in place else "",
        has_kernels(capability, archs),
        bool(getattr(found, "is_integrated", False)),
    )


def has_kernels(capability: tuple[int, int], archs: tuple[str, ...]) -> bool:
    """Whether a build for ``archs`` runs on a GPU: binary code serves the same major version from its
    minor version on, PTX (compute_) all later ones, and a code with a letter only its own GPU."""
    if not archs:
        return True
    major, minor = capability
    for arch in archs:
        kind, _, number = arch.partition("_")
        digits = re.match(r"\d+", number)
        if digits is None:
            continue
        own = divmod(int(digits.group()), 10)
        exact = number != digits.group()
        if own == capability or (
            not exact and kind == "sm" and own[0] == major and own[1] <= minor
        ):
            return True
        if kind == "compute" and not exact and own <= capability:
            return True
    return False


def _cpu_bfloat16(torch: Any) -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def main() -> int:
    """Print the report of this process's torch."""
    try:
        import torch
    except Exception as error:  # a damaged installation may raise anything
        report = TorchReport(error=_first_line(error) or type(error).__name__)
    else:
        report = read_torch(torch)
    print(json.dumps(report.to_json()), flush=True)
    return 0


# ------------------------------------------------------------------ known and asked

_asking = threading.Lock()
_children: list[subprocess.Popen[str]] = []
_answers: dict[str, tuple[float, TorchReport]] = {}


@lru_cache(maxsize=1)
def installed() -> Build | None:
    """The installed build, read from torch's version file; ``None`` if there is none."""
    try:
        spec = importlib.util.find_spec("torch")
        place = Path(spec.origin).parent if spec is not None and spec.origin else None
        text = (place / "version.py").read_text(encoding="utf-8") if place is not None else ""
    except (OSError, ValueError, ImportError):
        return None
    found = dict(re.findall(r"^(\w+)(?:\s*:[^=\n]+)?\s*=\s*(.+)$", text, re.MULTILINE))
    try:
        values = {n: ast.literal_eval(found.get(n, "None")) for n in ("__version__", "cuda", "hip")}
    except (ValueError, SyntaxError):
        return None
    return Build(str(values["__version__"]), values["cuda"], values["hip"], str(place))


def known() -> TorchReport | None:
    """The report as far as it is known without asking torch, in less than a millisecond; ``None`` if only
    torch can tell which device trains."""
    build = installed()
    if build is not None and (build.cuda is None or build.hip is not None):
        found = _kept(_key(build, with_driver=False))
        return found or TorchReport(
            build.version,
            build.cuda,
            build.hip,
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
            mps=sys.platform == "darwin" and platform.machine() == "arm64",
            cpu_bfloat16=hardware.cpu_computes_bfloat16(),
        )
    return _kept(_key(build))


def ask(fresh: bool = False) -> TorchReport:
    """The report, from a process that asks torch unless everything is known. Takes seconds the first
    time; ``fresh`` asks in any case. Also lists the GPUs of the driver."""
    hardware.look()
    report = None if fresh else known()
    if report is not None and report.cpu_bfloat16 is not None:
        return report
    with _asking:
        report = None if fresh else known()  # another thread may have asked meanwhile
        if report is not None and report.cpu_bfloat16 is not None:
            return report
        build = installed()
        found = _run()
        if found is None:
            return TorchReport(error="the program was closed")
        plain = build is not None and (build.cuda is None or build.hip is not None)
        _keep(_key(build, with_driver=not plain), found, lasting=bool(found.gpus) or plain)
        return found


def forget() -> None:
    """Ask torch again the next time: a report turned out to be wrong."""
    _answers.clear()
    busy_files.remove(_file())


def end() -> None:
    """End the process that is being asked; what it answers is not kept."""
    while _children:
        _children.pop().kill()


def _run() -> TorchReport | None:
    """The report of a process; ``None`` if ``end`` has ended it."""
    try:
        child = subprocess.Popen(
            module_command(MODULE),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=child_environment({}),
            creationflags=NO_WINDOW,
        )
    except OSError as error:
        return TorchReport(error=f"no process can be started: {error}")
    end_with_us(child)
    _children.append(child)
    try:
        out, errors = child.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        out, errors = child.communicate()
        return TorchReport(error=f"it did not answer within {TIMEOUT_S:.0f} seconds")
    if child not in _children:
        return None
    _children.remove(child)
    lines = out.strip().splitlines()
    try:
        return report_from_json(json.loads(lines[-1]))
    except (IndexError, TypeError, ValueError, KeyError, AttributeError):
        last = errors.strip().splitlines()
        return TorchReport(error=last[-1] if last else _exit_words(child.returncode))


def _exit_words(code: int) -> str:
    """How a process ended that printed nothing: torch crashes on a CPU that is too old for it."""
    if code >= 0:
        return f"it exited with code {code}"
    try:
        return f"it crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"it crashed (signal {-code})"


def _key(build: Build | None, with_driver: bool = True) -> str:
    """Identifies everything that a report depends on."""
    seen: list[Any] = [sys.executable, asdict(build) if build is not None else None]
    if with_driver:
        uuids = [part.uuid for card in hardware.listed_gpus() for part in (card, *card.parts)]
        seen += [
            hardware.driver().version,
            sorted(uuids),
            {name: os.environ.get(name) for name in VARIABLES},
        ]
    return hashlib.sha256(json.dumps(seen, default=str).encode()).hexdigest()[:24]


def _file() -> Path:
    return paths.cache_dir() / "torch-report.json"


def _kept(key: str) -> TorchReport | None:
    """The cached report for a key, unless it is one without a GPU that has expired."""
    if key not in _answers:
        try:
            data, hashed = without_hash(parse(read_regular(_file())))
            if hashed and data["key"] == key:
                _answers[key] = float(data["until"]), report_from_json(data["report"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None  # none yet, or one of another version
    until, report = _answers.get(key, (0.0, None))
    return report if time.time() < until else None


def _keep(key: str, report: TorchReport, *, lasting: bool) -> None:
    """Cache a report; a cache that cannot be written only costs time."""
    from studio.system.atomic import write_atomic

    lasting = lasting and not report.error
    until = time.time() + (10.0 * 365 * 86400 if lasting else FAILED_FOR_S)
    _answers[key] = until, report
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        data = {"key": key, "until": until, "report": report.to_json()}
        write_atomic(_file(), json.dumps(with_hash(data)))
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
