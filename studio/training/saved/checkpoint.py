"""Checkpoints that are committed atomically: a folder is either complete and verified, or ignored.

A stock Trainer checkpoint that is killed while it is written can seldom be resumed. Here the files
go to a staging folder, are flushed to disk and listed with size and sha256 in a manifest, and the
folder is renamed. Old checkpoints are removed after that. The content of a checkpoint is defined in
``snapshot``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_STAGING = "staging-"
_NAME = re.compile(r"step-(\d{6,})")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint; ``identity`` identifies the training it belongs to."""

    path: Path
    step: int
    identity: str


def commit(
    folder: Path, step: int, identity: str, write: Callable[[Path], None], keep: int | None
) -> Checkpoint:
    """Write a checkpoint of ``step`` with ``write(staging)`` and remove all but the newest ``keep``
    (``None`` keeps all).

    If it is killed at any moment, the earlier checkpoints remain intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_torn(folder)
    name = f"step-{step:06d}"
    staging = folder / (_STAGING + name)
    staging.mkdir()
    try:
        write(staging)
        _write_manifest(staging, step, identity)
    except BaseException:  # frees space on a full disk
        shutil.rmtree(staging, ignore_errors=True)
        raise
    final = folder / name
    if final.exists():  # an earlier attempt at this step
        _set_aside(final)
    os.replace(staging, final)
    sync_folder(folder)
    if keep is not None:
        _rotate(folder, step, keep)
    return Checkpoint(final, step, identity)


def newest(folder: Path, identity: str) -> Checkpoint | None:
    """The newest checkpoint of this training whose files match its manifest."""
    for path in sorted(_committed(folder), key=_step_of, reverse=True):
        found = _sound(path, identity)
        if found is not None:
            return found
    return None


def of_step(folder: Path, step: int, identity: str) -> Checkpoint | None:
    """The checkpoint of this step, if it exists and is complete."""
    return _sound(folder / f"step-{step:06d}", identity)


def _sound(path: Path, identity: str) -> Checkpoint | None:
    manifest = read_manifest(path)
    if manifest and manifest["identity"] == identity and not damage(path, manifest):
        return Checkpoint(path, int(manifest["step"]), identity)
    return None


def drop_others(folder: Path, steps: Container[int]) -> None:
    """Remove every checkpoint in ``folder`` except those of ``steps``."""
    for path in _committed(folder):
        if _step_of(path) not in steps:
            _set_aside(path)


def unusable(folder: Path, identity: str) -> list[str]:
    """The checkpoints skipped by ``newest``, each with the reason."""
    reasons = []
    for path in sorted(_committed(folder), key=_step_of):
        manifest = read_manifest(path)
        if manifest is None:
            reasons.append(f"{path.name}: its manifest cannot be read")
        elif manifest["identity"] != identity:
            reasons.append(f"{path.name}: it belongs to other settings or data")
        else:
            reasons += [f"{path.name}: {reason}" for reason in damage(path, manifest)]
    return reasons


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint, or ``None`` when it is missing or incomplete."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        known = {"step", "identity", "files"} <= manifest.keys()
    except (OSError, ValueError, AttributeError):
        return None
    return dict(manifest) if known else None


def damage(path: Path, manifest: dict[str, Any]) -> list[str]:
    """The first difference between the files and the manifest; empty if there is none."""
    found = []
    for name, wanted in manifest["files"].items():
        file = path / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif file.stat().st_size != wanted["size"]:
            found.append(f"{name} has {file.stat().st_size} bytes instead of {wanted['size']}")
        elif sha256_of(file) != wanted["sha256"]:
            found.append(f"{name} has a different hash than in the manifest")
    return found


def remove_torn(folder: Path) -> None:
    """Remove the remains of an interrupted commit or rotation."""
    for path in folder.glob(_STAGING + "*"):
        shutil.rmtree(path, ignore_errors=True)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sync_file(file: Path) -> None:
    """Flush a file's content to the disk."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk (does nothing on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_manifest(staging: Path, step: int, identity: str) -> None:
    files = {}
    for file in _files(staging):
        sync_file(file)
        files[file.relative_to(staging).as_posix()] = {
            "size": file.stat().st_size,
            "sha256": sha256_of(file),
        }
    manifest = staging / MANIFEST
    content = {"step": step, "identity": identity, "files": files}
    manifest.write_text(json.dumps(content, indent=2), encoding="utf-8")
    sync_file(manifest)
    sync_folder(staging)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file())


def _committed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)]


def _step_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found.group(1)) if found else -1


def _rotate(folder: Path, step: int, keep: int) -> None:
    """Keep the newest checkpoints up to ``step``.

    Later checkpoints cannot be resumed from, because ``step`` was trained again; they must not
    displace the new ones. Old checkpoints are renamed before their files are deleted, so that no
    partial checkpoint remains under its name.
    """
    found = sorted(_committed(folder), key=_step_of)
    kept = [path for path in found if _step_of(path) <= step][-keep:]
    for path in found:
        if path not in kept:
            _set_aside(path)


def _set_aside(path: Path) -> None:
    gone = path.with_name(_STAGING + "gone-" + path.name)
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)
