"""Fingerprints: a sha256 of everything that a step's result depends on.

Equal fingerprints mean that an earlier result may be used again, so everything counts that can
change the result (type, version, full settings, inputs, content of files read) and nothing else
(no title, no position). It must not import torch and must not look at modification times except
to avoid hashing the same big file twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.graph.node_type import NodeType
from studio.graph.registry import Registry, variant_fields
from studio.graph.schema import Settings, fields_of
from studio.system import paths
from studio.system.atomic import write_atomic
from studio.system.stored_json import parse, read_regular

HASH_CACHE_ENTRIES = 5000
FRESH_S = 2.0
_lock = threading.Lock()


def resolved_settings(
    node_type: NodeType[Settings], values: Mapping[str, Any], registry: Registry
) -> dict[str, Any]:
    """All settings with defaults filled in, those of chosen variants too, as JSON data.

    Raises pydantic's ``ValidationError`` when they are not valid.
    """
    data = node_type.settings.model_validate(dict(values)).model_dump(mode="json")
    for name, kind in variant_fields(node_type.settings).items():
        variant = registry.variant(kind, str(data[name]))
        own = f"{name}_settings"
        if variant is not None and own in data:
            data[own] = variant.settings.model_validate(data[own] or {}).model_dump(mode="json")
    return data


def step_fingerprint(
    node_type: NodeType[Settings],
    settings: Mapping[str, Any],
    inputs: Mapping[str, tuple[str, str]],
    project_dir: Path,
) -> str:
    """The fingerprint of a step.

    ``settings`` are resolved ones; ``inputs`` maps a port to (fingerprint of the step it comes
    from, output port there). Raises ``OSError`` when a file that is there cannot be read.
    """
    parsed = node_type.settings.model_validate(dict(settings))
    body = {
        "type": node_type.id,
        "version": node_type.version,
        "settings": _counted(node_type.settings, settings, project_dir),
        "inputs": {port: list(source) for port, source in inputs.items()},
        "files": [_file_entry(p) for p in _all_files(node_type.files(parsed, project_dir))],
    }
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _counted(
    model: type[Settings], settings: Mapping[str, Any], project_dir: Path
) -> dict[str, Any]:
    """The settings that change the result. Output folders count by their full path: a moved project
    exports to a new place."""
    data = dict(settings)
    for spec in fields_of(model):
        value = data.get(spec.name)
        if not spec.meta.changes_result:
            data.pop(spec.name, None)
        elif spec.meta.widget == "folder" and isinstance(value, str) and value:
            data[spec.name] = str(project_dir / Path(value).expanduser())
    return data


def _all_files(found: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in found:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file())
        else:
            files.append(path)
    return files


def _file_entry(path: Path) -> list[str | None]:
    return [path.name, file_sha256(path) if path.exists() else None]


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, remembered by path, size and modification time."""
    key = str(path.resolve())
    stat = path.stat()
    mark = [stat.st_size, stat.st_mtime_ns]
    with _lock:
        known = _read_cache().get(key)
    if isinstance(known, list) and known[:2] == mark and len(known) == 3:
        return str(known[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # A file that was just written may change again within the clock's resolution.
    if time.time() - stat.st_mtime > FRESH_S:
        _remember(key, [*mark, digest])
    return digest


def _cache_path() -> Path:
    return paths.cache_dir() / "file-hashes.json"


def _read_cache() -> dict[str, Any]:
    try:
        data = parse(read_regular(_cache_path()))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _remember(key: str, entry: list[Any]) -> None:
    """Cache a hash; a cache that cannot be written only costs time."""
    with _lock:
        data = _read_cache()
        data.pop(key, None)
        kept = list(data.items())[-(HASH_CACHE_ENTRIES - 1) :]
        try:
            _cache_path().parent.mkdir(parents=True, exist_ok=True)
            write_atomic(_cache_path(), json.dumps({**dict(kept), key: entry}))
        except OSError:
            return
