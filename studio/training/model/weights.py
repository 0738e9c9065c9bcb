"""Identifies a model's weights by a hash of their content, computed once per file.

Fingerprints and checkpoints need to know whether two folders hold the same model. Hashing gigabytes
takes seconds, so hashes are cached by path, size and modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path

from studio.graph.context import StepContext
from studio.model.weight_files import tensor_shapes, weight_files
from studio.system.atomic import write_atomic
from studio.system.paths import cache_dir
from studio.system.stored_json import parse, read_regular
from studio.training.fetch.gguf import hash_file


def weights_sha256(context: StepContext, folder: Path) -> str:
    """One hash over the config and all weight files of a model folder."""
    context.phase("read", "Checking the weights")
    known = _read_known()
    digest = hashlib.sha256()
    for file in [folder / "config.json", *weight_files(folder)]:
        key = f"{file.resolve()}|{file.stat().st_size}|{file.stat().st_mtime_ns}"
        if key not in known:
            known[key] = hash_file(context, file)
        digest.update(f"{file.name}:{known[key]}\n".encode())
    _write_known(known)
    return digest.hexdigest()


def parameter_count(folder: Path) -> int:
    """The number of parameters, from the files' headers."""
    shapes = (s for file in weight_files(folder) for _, s in tensor_shapes(file))
    return sum(math.prod(shape) for shape in shapes)


def _cache_file() -> Path:
    return cache_dir() / "hashes.json"


def _read_known() -> dict[str, str]:
    try:
        known = parse(read_regular(_cache_file()))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_known(known: dict[str, str]) -> None:
    """Replace the cache file; a lost entry is computed again."""
    file = _cache_file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(known))
