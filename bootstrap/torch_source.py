"""Decides from where torch is installed on this machine.

Why: PyPI's torch is CUDA on Linux (several GB, useless without an NVIDIA GPU) and CPU-only on
Windows (useless with one). PyTorch's own index has the other build. The user's pip settings come
first, and `LORA_STUDIO_TORCH` (cpu, cuda, default, or the address of an index) decides outright.

It must not install anything; `candidates()` is a plain function of what was found out.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.13.0"
CUDA = "cu130"
INDEX = "https://download.pytorch.org/whl/"
PROBE_S = 5.0


@dataclass(frozen=True)
class Source:
    """One way to get torch: the requirement, pip's extra arguments, and the required build."""

    label: str
    requirement: str = f"torch=={VERSION}"
    index: str = ""  # an index beside the configured ones
    probe: bool = False  # skip it when the index does not answer
    must_be_cuda: bool = False

    def arguments(self) -> list[str]:
        return [self.requirement, *(["--extra-index-url", self.index] if self.index else [])]


PLAIN = Source("the configured package index")
CPU = Source("PyTorch's CPU index", index=INDEX + "cpu", probe=True)
CUDA_INDEX = Source(
    f"PyTorch's CUDA index ({CUDA})",
    requirement=f"torch=={VERSION}+{CUDA}",
    index=INDEX + CUDA,
    must_be_cuda=True,
)


def candidates(
    platform: str, machine: str, nvidia: bool, own_index: bool, override: str = ""
) -> list[Source]:
    """The sources to try, in order.

    `platform` is `sys.platform`, `machine` is `platform.machine()`, `nvidia` says whether a GPU
    was found, and `own_index` whether the user's pip settings name further places for packages.
    """
    if override:
        return _overridden(override)
    if platform == "win32" and nvidia and machine.lower() in ("amd64", "x86_64"):
        first = Source(PLAIN.label, must_be_cuda=True)
        return [first, CUDA_INDEX] if own_index else [CUDA_INDEX]
    if platform.startswith("linux") and not nvidia:
        return [PLAIN, CPU] if own_index else [CPU, PLAIN]
    return [PLAIN]


def _overridden(override: str) -> list[Source]:
    known = {"cpu": Source(CPU.label, index=CPU.index), "cuda": CUDA_INDEX, "default": PLAIN}
    if override in known:
        return [known[override]]
    return [Source(override, index=override)]


def has_nvidia(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    root = Path(environment.get("SystemRoot", r"C:\Windows"))
    places = [
        shutil.which("nvidia-smi", path=environment.get("PATH")),
        root / "System32" / "nvidia-smi.exe",
        Path("/usr/lib/wsl/lib/nvidia-smi"),
    ]
    found = next((place for place in places if place and Path(place).is_file()), None)
    if not found:
        return False
    try:
        answer = subprocess.run([str(found), "-L"], capture_output=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True  # a driver is installed but slow to answer: prefer the CUDA build
    return answer.returncode == 0


def names_own_index(pip_config: str) -> bool:
    """Whether the output of `pip config list` names places for packages beside the main index."""
    keys = ("find-links", "extra-index-url", "no-index")
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        if key.strip().rpartition(".")[2] in keys and value.strip().strip("'\"").strip():
            return True
    return False


def reachable(index: str, timeout_s: float = PROBE_S) -> bool:
    """Whether the index has a page for torch; gives up after `timeout_s`, name look-up included."""
    answers: list[bool] = []
    thread = threading.Thread(target=_ask, args=(index, timeout_s, answers), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return bool(answers)


def _ask(index: str, timeout_s: float, answers: list[bool]) -> None:
    authorities = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        request = urllib.request.Request(index.rstrip("/") + "/torch/", method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
            if answer.status < 400:
                answers.append(True)
    except (OSError, ValueError):
        return  # not reachable: the next source is tried


def installed(site_packages: Sequence[Path]) -> str:
    """The version of torch that is completely installed in one of these folders, or an empty
    string."""
    for folder in site_packages:
        for record in folder.glob("torch-*.dist-info/RECORD"):
            return record.parent.name[len("torch-") : -len(".dist-info")]
    return ""


def acceptable(version: str, source: Source) -> bool:
    """Whether an installed version is the build that `source` provides."""
    if version.partition("+")[0] != VERSION:
        return False
    return "+cu" in version or not source.must_be_cuda
