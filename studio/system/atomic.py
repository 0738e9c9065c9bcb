"""Atomic writing: a reader sees the old content or the new one, never a part.

The temporary file is not from ``tempfile``, which before Python 3.13 tries 2**31 names in a folder in which Windows
refuses to create files.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from studio.system import busy_files


def write_atomic(path: Path, text: str) -> None:
    """Replace a file's content so that a crash leaves the old or the new text, never half of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    file = open(temporary, "x", encoding="utf-8", newline="\n", opener=_private)  # noqa: SIM115
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        else:
            os.chmod(temporary, 0o644)
        busy_files.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            busy_files.remove(temporary)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
