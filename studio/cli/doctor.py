"""``doctor``: versions, devices, memory, disk, and what works here.

A separate process asks torch: importing it takes seconds, and a broken installation must not break
the report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bootstrap.platforms import OLD_RUNTIME, RUNTIME_HINT, is_old_runtime, writable
from studio.graph.registry import load_registry
from studio.runs.environment import versions
from studio.system import hardware, paths
from studio.system.settings import load_settings

TORCH_TIMEOUT_S = 180
_TORCH_FACTS = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "cuda": cuda, "cuda_build": torch.version.cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    "bf16": bool(cuda and torch.cuda.is_bf16_supported()), "threads": torch.get_num_threads(),
    "mps": bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available()),
}))
"""


def doctor(options: argparse.Namespace) -> int:
    """Print what this computer supports; 1 if the engine cannot work."""
    facts = gather()
    if options.json:
        print(json.dumps(facts))
    else:
        print(as_text(facts))
    return 0 if not facts["torch"].get("error") else 1


def gather() -> dict[str, Any]:
    """All facts, as JSON data."""
    registry = load_registry()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(),
        "cpu": hardware.cpu_model(),
        "cpu_count": hardware.cpu_count(),
        "ram_total_gib": hardware.ram_total_gib(),
        "ram_free_gib": hardware.ram_free_gib(),
        "gpus": [asdict(g) for g in hardware.gpus()],
        "torch": torch_facts(),
        "folders": {name: _folder(p) for name, p in _folders().items()},
        "display": has_display(),
        "nodes": sorted(registry.nodes),
        "extensions_failed": list(registry.failures),
    }


def torch_facts() -> dict[str, Any]:
    """The version and devices of torch, or ``error``."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TORCH_FACTS],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TORCH_TIMEOUT_S,
            check=False,
        )
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts
    except ValueError:
        lines = done.stderr.strip().splitlines()
        if is_old_runtime(done.stderr):
            return {"error": f"{OLD_RUNTIME} {RUNTIME_HINT}"}
        return {"error": lines[-1] if lines else f"it exited with code {done.returncode}"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}


def has_display() -> bool:
    """Whether a window can probably be shown."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _folders() -> dict[str, Path]:
    runs = load_settings().settings.runs_dir().resolve()
    return {"runs": runs, "cache": paths.cache_dir(), "config": paths.config_dir()}


def _folder(path: Path) -> dict[str, Any]:
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    free = round(shutil.disk_usage(place).free / hardware.GIB, 2)
    return {"path": str(path), "free_gib": free, "writable": writable(place)}


def as_text(facts: dict[str, Any]) -> str:
    """The report as text."""
    lines = [f"Python {facts['python']} on {facts['system']}"]
    lines.append(f"CPU: {facts['cpu']}, {facts['cpu_count']} cores")
    lines.append(f"Memory: {facts['ram_free_gib']} of {facts['ram_total_gib']} GiB available")
    for gpu in facts["gpus"]:
        lines.append(
            f"GPU {gpu['index']}: {gpu['name']}, {gpu['used_gib']} of {gpu['total_gib']} GiB used"
        )
    lines += [_torch_line(facts["torch"]), *_folder_lines(facts["folders"]), *_works(facts)]
    lines += ["Packages:"]
    lines += [
        f"  {name} {version or 'not installed'}" for name, version in facts["packages"].items()
    ]
    return "\n".join(lines)


def _torch_line(torch: dict[str, Any]) -> str:
    if torch.get("error"):
        return f"torch cannot be used: {torch['error']}"
    devices = ", ".join(torch["devices"]) or _cpu_words(torch)
    return f"torch {torch['version']}: {devices}"


def _cpu_words(torch: dict[str, Any]) -> str:
    """The devices for training: CUDA or the CPU. On a Mac, state that its GPU is not supported."""
    return "CPU only (Apple GPUs are not supported yet)" if torch["mps"] else "CPU only"


def _folder_lines(folders: dict[str, Any]) -> list[str]:
    return [
        f"{name.capitalize()}: {f['path']} ({f['free_gib']} GiB free"
        f"{'' if f['writable'] else ', NOT WRITABLE'})"
        for name, f in folders.items()
    ]


def _why_no_gpu(torch: dict[str, Any]) -> str:
    if not torch.get("cuda_build"):
        return "a CPU-only build of torch is installed"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is “{hidden}”"
    return f"the driver may be too old for CUDA {torch['cuda_build']}"


def _works(facts: dict[str, Any]) -> list[str]:
    torch = facts["torch"]
    works = not torch.get("error")
    gpu = works and torch["cuda"]
    rows = {
        "train on the CPU": works,
        "train on an NVIDIA GPU": gpu,
        "bfloat16 on the GPU": works and torch["bf16"],
        "4-bit and 8-bit base models on the GPU": gpu
        and facts["packages"]["bitsandbytes"] is not None,
        "open the window": facts["display"] and facts["packages"]["PySide6-Essentials"] is not None,
    }
    lines = ["Supported on this machine:"]
    lines += [f"  {'yes' if ok else 'no ':<4} {what}" for what, ok in rows.items()]
    if gpu is False and facts["gpus"]:
        lines.append(f"  A GPU is present, but torch cannot use it: {_why_no_gpu(torch)}.")
    return [*lines, *facts["extensions_failed"]]
