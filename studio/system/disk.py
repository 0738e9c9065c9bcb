"""Errors of the disk as one sentence: what was written, where, and the free space.

Why one place: data, merge and export all write gigabytes, and "No space left on device" alone helps
nobody. It must not decide what happens to half-written files; the writers clean up.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.errors import Stopped, StudioError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explain_errors(
    what: str, folder: Path, *, needed: int | None = None, field: str | None = None
) -> Iterator[None]:
    """Turn errors from writing files inside the block into a ``StudioError``.

    ``what`` names what is written (“the merged model”), ``needed`` is its size in bytes. Covers every
    ``OSError``, and a full disk as reported by libraries written in Rust.
    """
    try:
        yield
    except (StudioError, Stopped):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_full(error):
            raise
        raise disk_error(what, folder, error, needed=needed, field=field) from error


def disk_error(
    what: str,
    folder: Path,
    error: Exception,
    *,
    needed: int | None = None,
    field: str | None = None,
) -> StudioError:
    """The ``StudioError`` for an error raised while writing."""
    if is_full(error):
        room = free_bytes(folder)
        sizes = [] if needed is None else [f"{size_text(needed)} needed"]
        sizes += [] if room is None else [f"{size_text(room)} free"]
        return StudioError(
            f"{what} could not be written to {folder}, the disk is full"
            f"{' (' + ', '.join(sizes) + ')' if sizes else ''}.",
            title="The disk is full",
            hint="Free some space, or choose a folder on another disk.",
            field=field,
            code="disk_full",
            file=str(folder),
        )
    reason = getattr(error, "strerror", None) or str(error)
    return StudioError(
        f"{what} could not be written to {folder}: {reason}.",
        title="The folder cannot be written",
        hint="Choose another folder, or change its permissions.",
        field=field,
        code="not_writable",
        file=str(folder),
    )


def is_full(error: BaseException) -> bool:
    """Whether an error means that no more bytes fit; Rust libraries say so only in their text."""
    number = getattr(error, "errno", None)
    return number in _FULL or any(
        words in str(error) for words in ("No space left", "File too large", "Disk quota")
    )


def free_bytes(folder: Path) -> int | None:
    """Free space where ``folder`` is or will be; ``None`` when that is unknown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None  # some file systems do not count


def size_text(size: float) -> str:
    """Bytes in words: ``2.4 GiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
