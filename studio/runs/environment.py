"""The environment of a run: versions, device, threads, seeds. Stored in the run folder for
reference.

Versions are read from package metadata, so that nothing heavy is imported. No environment
variables are copied: they may hold tokens.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from studio.graph.project import json_text
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan
from studio.system import device, hardware
from studio.system.atomic import write_atomic

MOST_THREADS = 1024

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "bitsandbytes",
    "gguf",
    "xllamacpp",
    "numpy",
    "pydantic",
    "pyarrow",
    "PySide6-Essentials",
    "lora-studio",
)


def versions() -> dict[str, str | None]:
    """Installed version of each package that matters; ``None`` when it is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe(plan: Plan, threads: int | None) -> dict[str, Any]:
    """The environment of a run as JSON data."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(),
        "device": device.current().label,
        "gpus": [g.name for g in hardware.listed_gpus()],
        "driver": hardware.driver().version,
        "cpu": hardware.cpu_model(),
        "cpu_count": hardware.cpu_count(),
        "ram_gib": hardware.ram_total_gib(),
        "threads": threads,
        "seeds": {s.node: s.settings["seed"] for s in plan.steps if "seed" in s.settings},
        "argv": sys.argv[:1] and [os.path.basename(sys.argv[0]), *sys.argv[1:]],
    }


def threads_of(environment: dict[str, Any]) -> int | None:
    """The number of threads in an environment; ``None`` if it has none that makes sense."""
    found = environment.get("threads")
    return found if type(found) is int and 0 < found <= MOST_THREADS else None


def write_environment(folder: RunFolder, plan: Plan, threads: int | None) -> dict[str, Any]:
    """Write the current environment to the run folder; those from before a resume are kept."""
    known = folder.environment()
    earlier = known.pop("earlier", [])
    earlier = earlier if isinstance(earlier, list) else []
    data = describe(plan, threads)
    if known:
        data["earlier"] = [*earlier, known]
    write_atomic(folder.environment_path, json_text(data, indent=1))
    return data
