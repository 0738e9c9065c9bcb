"""Checkpoints that are committed atomically: a folder is either complete and verified, or ignored.

A stock Trainer checkpoint that is killed while it is written can seldom be resumed. Here the files
go to a staging folder, are flushed to disk and listed with size and sha256 in a manifest, and the
folder is renamed. Old checkpoints are removed after that. The manifest has a hash of its own; those of
earlier versions have none. The content of a checkpoint is defined in ``snapshot``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from studio.system import busy_files
from studio.system.stored_json import parse, read_regular, with_hash, without_hash

MANIFEST = "manifest.json"
_STAGING = "staging-"
_NAME = re.compile(r"step-([0-9]{6,})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 16 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint; ``identity`` identifies the training it belongs to. ``left`` names the checkpoints
    that it replaces and that another program keeps open."""

    path: Path
    step: int
    identity: str
    left: tuple[str, ...] = ()


def commit(
    folder: Path, step: int, identity: str, write: Callable[[Path], None], keep: int | None
) -> Checkpoint:
    """Write a checkpoint of ``step`` with ``write(staging)`` and remove all but the newest ``keep``
    (``None`` keeps all).

    If it is killed at any moment, the earlier checkpoints remain intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_torn(folder)
    name = _name(step)
    staging = busy_files.free_name(folder / (_STAGING + name))
    busy_files.patiently(staging.mkdir)
    try:
        write(staging)
        _write_manifest(staging, step, identity)
    except BaseException:  # frees space on a full disk
        busy_files.tidy(staging)
        raise
    final = folder / name
    if os.path.lexists(final):  # an earlier attempt at this step
        _set_aside(final)
    busy_files.move_folder(staging, final)
    sync_folder(folder)
    left = _rotate(folder, step, keep) if keep is not None else ()
    return Checkpoint(final, step, identity, left)


def newest(folder: Path, identity: str) -> Checkpoint | None:
    """The newest checkpoint of this training that is complete and undamaged."""
    return choose(folder, identity)[0]


def choose(
    folder: Path, identity: str, content: Callable[[Path], str] = lambda path: ""
) -> tuple[Checkpoint | None, list[str]]:
    """The newest usable checkpoint of this training, and the newer ones that are skipped, each with the
    reason. ``content`` returns what is wrong with the content of an undamaged checkpoint."""
    skipped: list[str] = []
    for path in sorted(_committed(folder), key=_step_of, reverse=True):
        reason = _problem(path, identity) or content(path)
        if not reason:
            return Checkpoint(path, _step_of(path), identity), skipped
        skipped.insert(0, f"{path.name}: {reason}")
    return None, skipped


def of_step(folder: Path, step: int, identity: str) -> Checkpoint | None:
    """The checkpoint of this step, if it exists and is complete."""
    path = folder / _name(step)
    return None if _problem(path, identity) else Checkpoint(path, step, identity)


def drop_others(folder: Path, steps: Container[int]) -> None:
    """Remove every checkpoint in ``folder`` except those of ``steps``."""
    for path in _committed(folder):
        if _step_of(path) not in steps:
            _drop(path)


def _problem(path: Path, identity: str) -> str:
    """Why a checkpoint cannot be used; empty if it can."""
    try:
        manifest = _checked_manifest(path)
    except OSError as error:
        return f"its manifest cannot be read ({error.strerror or error})"
    except ValueError as error:
        return f"its manifest is damaged ({error})"
    if manifest["identity"] != identity:
        return "it belongs to other settings or data"
    try:
        return next(damage(path, manifest), "")
    except OSError as error:
        return f"its files cannot be read ({error.strerror or error})"


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint, or ``None`` when it is missing or damaged."""
    try:
        return _checked_manifest(path)
    except (OSError, ValueError):
        return None


def _checked_manifest(path: Path) -> dict[str, Any]:
    """The manifest; raises ``OSError`` or ``ValueError`` for one that this module did not write so."""
    manifest, has_hash = without_hash(parse(read_regular(path / MANIFEST, _LARGEST_MANIFEST)))
    step, identity, files = (manifest.get(key) for key in ("step", "identity", "files"))
    if not has_hash and manifest.keys() != {"step", "identity", "files"}:
        raise ValueError("its fields are not those of a manifest")
    if not isinstance(step, int) or isinstance(step, bool) or path.name != _name(step):
        raise ValueError(f"it is not the manifest of {path.name}")
    if not isinstance(identity, str) or not isinstance(files, dict) or not files:
        raise ValueError("its fields are not those of a manifest")
    if not all(_is_entry(*item) for item in files.items()):
        raise ValueError("its list of files is not valid")
    return manifest


def _is_entry(name: str, facts: Any) -> bool:
    """Whether an entry names a file of the checkpoint folder, with size and hash."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name or "\\" in name:
        return False
    if not isinstance(facts, dict) or facts.keys() != {"size", "sha256"}:
        return False
    size, digest = facts["size"], facts["sha256"]
    return type(size) is int and isinstance(digest, str) and bool(_SHA256.fullmatch(digest))


def damage(path: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """The differences between the files and the manifest; raises ``OSError`` when a file cannot be read."""
    for name, wanted in manifest["files"].items():
        file = path / name
        if not file.is_file():
            yield f"{name} is missing"
        elif file.stat().st_size != wanted["size"]:
            yield f"{name} has {file.stat().st_size} bytes instead of {wanted['size']}"
        elif sha256_of(file) != wanted["sha256"]:
            yield f"{name} has a different hash than in the manifest"


def remove_torn(folder: Path) -> None:
    """Remove the remains of an interrupted commit or rotation."""
    for path in folder.glob(_STAGING + "*"):
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a folder, or a file or link in its place; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        busy_files.tidy(path)
    else:
        with contextlib.suppress(OSError):
            busy_files.remove(path)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's content."""
    digest = hashlib.sha256()
    with busy_files.patiently(lambda: file.open("rb")) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sync_file(file: Path) -> None:
    """Flush a file's content to the disk."""
    with busy_files.patiently(lambda: file.open("rb+")) as stream:
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
    manifest.write_text(json.dumps(with_hash(content), indent=2), encoding="utf-8")
    sync_file(manifest)
    sync_folder(staging)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file())


def _committed(folder: Path) -> list[Path]:
    """The folders of checkpoints; other files and folders are ignored."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if os.path.isdir(p) and _step_of(p) >= 0]
    return [p for p in found if p.name == _name(_step_of(p))]


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found.group(1)) if found else -1


def _rotate(folder: Path, step: int, keep: int) -> tuple[str, ...]:
    """Keep the newest checkpoints up to ``step``; returns the names of those that could not be removed.

    Later checkpoints cannot be resumed from, because ``step`` was trained again; they must not
    displace the new ones. Old checkpoints are renamed before their files are deleted, so that no
    partial checkpoint remains under its name.
    """
    found = sorted(_committed(folder), key=_step_of)
    kept = [path for path in found if _step_of(path) <= step][-keep:]
    return tuple(path.name for path in found if path not in kept and not _drop(path))


def _drop(path: Path) -> bool:
    """Remove a checkpoint. One that another program keeps open remains until the next rotation, and does not end
    the training: then ``False``."""
    try:
        _set_aside(path)
    except OSError as error:
        if not busy_files.is_busy(error):
            raise
        return False
    return True


def _set_aside(path: Path) -> None:
    gone = busy_files.free_name(path.with_name(_STAGING + "gone-" + path.name))
    busy_files.rename(path, gone)
    _remove(gone)
