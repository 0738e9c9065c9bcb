"""Which hub models are completely cached, so that they need no network.

After an interrupted download the hub's cache may hold part of a model, and only the hub knows which
files are missing. So a finished download leaves a note with its commit and file sizes; a model
counts as cached when all of these files exist.
"""

from __future__ import annotations

import json
from pathlib import Path

from studio.system.atomic import write_atomic
from studio.system.paths import cache_dir
from studio.system.stored_json import parse, read_regular


def note_kept(repo: str, revision: str, folder: Path, commit: str) -> None:
    """Record that ``folder`` holds all files of ``repo`` at ``commit``, requested as ``revision``."""
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _files(folder)}
    note = {"path": str(folder), "commit": commit, "files": files}
    for name in {revision or "main", commit}:
        file = _note(repo, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(note))


def kept(repo: str, revision: str) -> tuple[Path, str] | None:
    """Folder and commit of a completely cached model, or ``None``."""
    try:
        note = parse(read_regular(_note(repo, revision or "main")))
        folder = Path(note["path"])
        complete = all((folder / n).stat().st_size == size for n, size in note["files"].items())
        return (folder, str(note["commit"])) if complete and note["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file()]


def _note(repo: str, revision: str) -> Path:
    plain = revision.replace("/", "--")
    return cache_dir() / "hub" / repo.replace("/", "--") / f"{plain}.json"
