"""Figures that were measured on this machine, kept in the cache: peaks of probes, speeds of runs.

A peak corrects later estimates of the same machine, model and way of computing by its ratio to the
formula's; a speed is operations a second, so that it serves other lengths and ranks too. A file that
cannot be read costs only the correction.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio import paths
from studio.estimate.machine import machine_key

LARGEST_CORRECTION = 3.0


@dataclass(frozen=True)
class Measured:
    """``ratio`` is measured peak by formula; ``operations_per_s`` what a step reached."""

    ratio: float
    operations_per_s: float
    tokens_per_s: float
    peak: int
    when: float = 0.0


def key_of(model: str, mode: Mapping[str, Any]) -> str:
    """The name of a figure: machine, model and way of computing."""
    content = json.dumps([machine_key(), model, dict(sorted(mode.items()))], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _file(key: str) -> Path:
    return paths.cache_dir() / "measured" / f"{key}.json"


def load_measured(key: str) -> Measured | None:
    """What was measured under this key, if anything."""
    try:
        data = json.loads(_file(key).read_text(encoding="utf-8"))
        found = Measured(**data)
    except (OSError, ValueError, TypeError):
        return None
    sane = 1 / LARGEST_CORRECTION < found.ratio < LARGEST_CORRECTION
    return found if sane else None


def store_measured(key: str, measured: Measured) -> None:
    """Keep a figure; an older one is replaced."""
    from studio.graph.project import write_atomic

    file = _file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {**asdict(measured), "when": time.time()}
    write_atomic(file, json.dumps(kept))
