"""An export as one ZIP archive for sharing: the same bytes for the same files, written in blocks.

Times, owners and permissions of the files are not stored. Weights are stored as they are, because they can hardly be
compressed.
"""

from __future__ import annotations

import re
import secrets
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from studio.errors import StudioError
from studio.system import busy_files, disk

_BLOCK = 8 * 1024 * 1024
_WEIGHTS = (".safetensors", ".gguf")
_TEXTS = (".json", ".md", ".txt", ".jinja", "")
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_LONGEST_NAME = 60


def archive_name(title: str) -> str:
    """The name of the archive, and of the folder in it, without the ending."""
    return re.sub(r"[^\w.-]+", "-", title)[:_LONGEST_NAME].strip("-._") or "model"


def write_archive(
    folder: Path,
    target: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the files of ``folder`` to the archive ``target``, in a folder of its name. ``progress(done, total)`` is
    called with bytes; what it raises stops it, and nothing is left. Raises ``StudioError``."""
    if not folder.is_dir():
        raise StudioError(f"{folder} does not exist any more.", hint="Run the export again.")
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    total = sum(p.stat().st_size for p in files)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with disk.explain_errors("the archive", target.parent, needed=total):
        try:
            with zipfile.ZipFile(part, "w") as archive:
                done = 0
                for path in files:
                    name = f"{target.stem}/{path.relative_to(folder).as_posix()}"
                    done = _add(archive, path, name, progress, done, total)
            busy_files.replace(part, target)
        finally:
            if part.exists():
                busy_files.remove(part)
    return target


def _add(
    archive: zipfile.ZipFile,
    path: Path,
    name: str,
    progress: Callable[[int, int], None],
    done: int,
    total: int,
) -> int:
    entry = zipfile.ZipInfo(name, _FIRST_DAY)
    entry.create_system = 3  # the same on every system
    entry.external_attr = 0o644 << 16
    weights = path.suffix in _WEIGHTS
    entry.compress_type = zipfile.ZIP_STORED if weights else zipfile.ZIP_DEFLATED
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as file:
        while block := source.read(_BLOCK):
            file.write(block)
            done += len(block)
            progress(done, total)
    return done


def files_with_paths(folder: Path, home: Path | None = None, more: Iterable[str] = ()) -> list[str]:
    """The names of text files that contain the path of this folder, of the user's home, or one of ``more``."""
    homes = {str(home or Path.home()), str(folder), *more} - {"/", "", "."}
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _TEXTS and path.stat().st_size < 2**20:
            text = path.read_text(encoding="utf-8", errors="replace").replace("\\\\", "\\")
            if any(place in text for place in homes):
                found.append(path.relative_to(folder).as_posix())
    return found
