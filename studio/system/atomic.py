"""Atomic writing: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from studio.system import busy_files


def write_atomic(path: Path, text: str) -> None:
    """Replace a file's content so that a crash leaves the old or the new text, never half of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        else:
            os.chmod(temporary, 0o644)
        busy_files.replace(Path(temporary), path)
    except BaseException:
        with suppress(OSError):
            busy_files.remove(Path(temporary))
        raise
