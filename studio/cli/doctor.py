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
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bootstrap.platforms import RUNTIME_HINT, is_old_runtime, writable
from studio.export_folder import llama_cpp
from studio.export_folder.ggml_library import find_library, how_to_get
from studio.graph.registry import load_registry
from studio.runs.environment import versions
from studio.system import device, hardware, paths, torch_report
from studio.system.settings import load_settings
from studio.system.torch_report import TorchReport, report_from_json


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
    registry, report = load_registry(), torch_report.ask(fresh=True)
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(),
        "cpu": hardware.cpu_model(),
        "cpu_count": hardware.cpu_count(),
        "ram_total_gib": hardware.ram_total_gib(),
        "ram_free_gib": hardware.ram_free_gib(),
        "gpus": [asdict(g) for g in hardware.gpus()],
        "driver": hardware.driver().version,
        "torch": report.to_json(),
        "device": device.choose(report).label,
        "folders": {name: _folder(p) for name, p in _folders().items()},
        "display": has_display(),
        "llama_cpp_library": str(library) if (library := find_library()) is not None else None,
        "nodes": sorted(registry.nodes),
        "extensions_failed": list(registry.failures),
    }


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
        lines.append(f"GPU on the bus at {gpu['pci'] or gpu['index']}: {_gpu_line(gpu)}")
        lines += [f"  with the instance {_gpu_line(part)}" for part in gpu["parts"]]
    if facts["driver"]:
        lines.append(f"NVIDIA driver {facts['driver']}")
    lines += [
        *_torch_lines(report_from_json(facts["torch"])),
        *_folder_lines(facts["folders"]),
        *_works(facts),
    ]
    lines += ["Packages:"]
    lines += [
        f"  {name} {version or 'not installed'}" for name, version in facts["packages"].items()
    ]
    return "\n".join(lines)


def _gpu_line(gpu: dict[str, Any]) -> str:
    known = gpu["total_gib"] is not None
    memory = f"{gpu['used_gib']} of {gpu['total_gib']} GiB used" if known else "memory not reported"
    return f"{gpu['name']}, {memory}"


def _torch_lines(report: TorchReport) -> list[str]:
    """torch with its GPUs, and the device of a training."""
    if report.error:
        hint = f" {RUNTIME_HINT}" if is_old_runtime(report.error) else ""
        return [f"torch cannot be used: {report.error}{hint}"]
    build = f"CUDA {report.cuda}" if report.cuda else "a build for CPUs"
    build = f"ROCm {report.hip}" if report.hip else build
    lines = [f"torch {report.version}: {build}"]
    for name, gpu in device.names(report).items():
        capability = ".".join(map(str, gpu.capability))
        usable = "" if gpu.kernels else ", not supported by this build of torch"
        lines.append(f"  sees {name}, compute capability {capability}{usable}")
    if report.visible is not None:
        lines.append(f"  CUDA_VISIBLE_DEVICES is “{report.visible}”")
    return [*lines, f"Training uses: {device.choose(report).label}"]


def _folder_lines(folders: dict[str, Any]) -> list[str]:
    return [
        f"{name.capitalize()}: {f['path']} ({f['free_gib']} GiB free"
        f"{'' if f['writable'] else ', NOT WRITABLE'})"
        for name, f in folders.items()
    ]


def _works(facts: dict[str, Any]) -> list[str]:
    report = report_from_json(facts["torch"])
    works, chosen = not report.error, device.choose(report)
    gpu = works and chosen.kind == "cuda"
    rows = {
        "train on the CPU": works,
        "train on an NVIDIA GPU": gpu,
        "bfloat16 on the GPU": gpu and chosen.bfloat16,
        "4-bit and 8-bit base models on the GPU": gpu
        and facts["packages"]["bitsandbytes"] is not None,
        "open the window": facts["display"] and facts["packages"]["PySide6-Essentials"] is not None,
    }
    rows["read GGUF exports back with llama.cpp"] = facts["packages"]["xllamacpp"] is not None
    rows["write K- and I-quants of GGUF"] = facts["llama_cpp_library"] is not None
    if not gpu:
        rows["bfloat16 units in the CPU"] = works and bool(chosen.bfloat16)
    lines = ["Supported on this machine:"]
    lines += [f"  {'yes' if ok else 'no ':<4} {what}" for what, ok in rows.items()]
    if facts["packages"]["xllamacpp"] is None:
        lines.append(f"  GGUF exports count as not proven. {llama_cpp.missing_words()}")
    if facts["llama_cpp_library"] is None:
        lines.append(f"  K- and I-quants need llama.cpp. {how_to_get()}")
    why = device.unused(report)
    if why is not None and works:
        lines.append(f"  {why.sentence[:1].upper()}{why.sentence[1:]} {why.hint}".rstrip())
    return [*lines, *facts["extensions_failed"]]
