"""An export as one ZIP archive for sharing: the same bytes for the same files, written in blocks.

Times, owners and permissions of the files are not stored. Weights are stored as they are, because they can hardly be
compressed.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from studio.errors import StudioError
from studio.system import busy_files, disk

_BLOCK = 8 * 1024 * 1024
_WEIGHTS = (".safetensors", ".gguf")
_TEXTS = (".json", ".md", ".txt", ".jinja", "")
_ENTRY_BYTES, _END_BYTES = 160, 98
"""What the archive says of a file besides its name, twice, with the fields of files of more than 4 GB; and its end."""
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
    needed = archive_bytes(folder, target)
    with disk.explain_errors("the archive", target.parent, needed=needed):
        part = busy_files.new_part(target)
        disk.refuse_full("the archive", target.parent, needed)
        try:
            with part.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
                done = 0
                for path in files:
                    name = f"{target.stem}/{path.relative_to(folder).as_posix()}"
                    done = _add(archive, path, name, progress, done, total)
                archive.close()
                file.flush()
                os.fsync(file.fileno())
            busy_files.replace(part, target)
        finally:
            if part.exists():
                busy_files.remove(part)
    return target


def archive_bytes(folder: Path, target: Path) -> int:
    """The size of the archive, in which texts are compressed; at most a few bytes less than this."""
    found = _END_BYTES
    for path in (p for p in folder.rglob("*") if p.is_file()):
        name = f"{target.stem}/{path.relative_to(folder).as_posix()}"
        found += _ENTRY_BYTES + 2 * len(name.encode())
        found += path.stat().st_size if path.suffix in _WEIGHTS else _compressed(path)
    return found


def _compressed(path: Path) -> int:
    made, size = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS), 0
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            size += len(made.compress(block))
    return size + len(made.flush())


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
