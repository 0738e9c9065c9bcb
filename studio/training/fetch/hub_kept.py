"""Which hub models are whole on this machine, so that no network is needed for them.

Why: the hub's cache may hold half a model after a download that broke off, and only asking the hub
tells. So a finished download leaves a note with its commit and its files' sizes; a model counts as
kept when all of them are still there. It must not ask any network.
"""

from __future__ import annotations

import json
from pathlib import Path

from studio.system.paths import cache_dir


def note_kept(repo: str, revision: str, folder: Path, commit: str) -> None:
    """Remember that ``folder`` is the whole of ``repo`` at ``commit``, asked for as ``revision``."""
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _files(folder)}
    note = {"path": str(folder), "commit": commit, "files": files}
    for name in {revision or "main", commit}:
        file = _note(repo, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(note), encoding="utf-8")


def kept(repo: str, revision: str) -> tuple[Path, str] | None:
    """Folder and commit of a model that is whole on this machine, or ``None``."""
    try:
        note = json.loads(_note(repo, revision or "main").read_text(encoding="utf-8"))
        folder = Path(note["path"])
        whole = all((folder / n).stat().st_size == size for n, size in note["files"].items())
        return (folder, str(note["commit"])) if whole and note["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.is_file()]


def _note(repo: str, revision: str) -> Path:
    plain = revision.replace("/", "--")
    return cache_dir() / "hub" / repo.replace("/", "--") / f"{plain}.json"
