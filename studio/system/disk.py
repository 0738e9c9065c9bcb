"""Errors of the disk as one sentence: what was written, where, and the free space.

Why one place: data, merge and export all write gigabytes, and "No space left on device" alone helps
nobody. It must not decide what happens to half-written files; the writers clean up.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.errors import Stopped, StudioError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_WORDS = ("No space left", "File too large", "Disk quota", "not enough space on the disk")
_NUMBER = re.compile(r"(os error|[Ee]rrno|WinError|Windows error) (\d+)")
_WINDOWS = {
    2: "ENOENT",
    3: "ENOENT",
    5: "EACCES",
    8: "ENOMEM",
    14: "ENOMEM",
    19: "EROFS",
    21: "ENODEV",  # the device is not ready
    23: "EIO",  # cyclic redundancy check
    32: "EBUSY",
    33: "EBUSY",
    39: "ENOSPC",
    53: "ENOTCONN",  # the network path was not found
    55: "ENODEV",
    59: "ENOTCONN",  # an unexpected network error
    64: "ENOTCONN",  # the network name is no longer available
    67: "ENOTCONN",
    80: "EEXIST",
    112: "ENOSPC",
    121: "ETIMEDOUT",
    123: "EINVAL",  # the syntax of the name is incorrect
    145: "ENOTEMPTY",
    183: "EEXIST",
    206: "ENAMETOOLONG",
    303: "EBUSY",  # the file is about to be deleted
    1117: "EIO",
    1224: "EBUSY",  # a part of the file is mapped
    1295: "EDQUOT",
    1455: "ENOMEM",  # the paging file is too small
}
"""Error codes of Windows, which libraries report in their texts and Python as ``winerror``, by the POSIX name. Python
itself translates some of them less exactly: 32 to EACCES, 39 and 1224 to EINVAL."""
FREE_SPACE = "Free some space, or choose a folder on another disk."
_PERMISSIONS = "Change its permissions, or choose another location."
_CONNECTION = "Check that the disk or network folder is connected, then try again."
_NAME = "Use a shorter name in UTF-8, or a folder with a shorter path."
_IN_PLACE = "Rename or remove what is there, then try again."

_HINTS = {
    "ENOSPC": FREE_SPACE,
    "EDQUOT": FREE_SPACE,
    "EACCES": _PERMISSIONS,
    "EPERM": _PERMISSIONS,
    "EROFS": "The disk is mounted read-only: make it writable, or choose a folder on another disk.",
    "EIO": "The disk or its connection has failed: check it, or choose a folder on another disk.",
    "EREMOTEIO": "The disk or its connection has failed: check it, or choose a folder on another disk.",
    "ESTALE": "The network folder has changed on its server: connect it again, then try again.",
    "ENODEV": _CONNECTION,
    "ENXIO": _CONNECTION,
    "ENOTCONN": _CONNECTION,
    "EHOSTDOWN": _CONNECTION,
    "ETIMEDOUT": _CONNECTION,
    "ENOENT": "It was moved or deleted: put it back, or choose another location.",
    "ENOTDIR": "A file stands where a folder is needed. " + _IN_PLACE,
    "EISDIR": "A folder stands where a file is needed. " + _IN_PLACE,
    "EEXIST": _IN_PLACE,
    "ENOTEMPTY": _IN_PLACE,
    "ELOOP": "Symbolic links lead in a circle. " + _IN_PLACE,
    "ENAMETOOLONG": _NAME,
    "EILSEQ": _NAME,
    "EINVAL": "The file system does not support this name or operation: choose a folder on another disk.",
    "ENOSYS": "The file system does not support this operation: choose a folder on another disk.",
    "ENOTSUP": "The file system does not support this operation: choose a folder on another disk.",
    "ENOLCK": "The file system does not support locks: choose a folder on a local disk.",
    "EMFILE": "Too many files are open: close other programs, or raise the limit (ulimit -n).",
    "ENFILE": "Too many files are open: close other programs, or raise the limit of the system.",
    "EBUSY": "Another program uses it: close that program, then try again.",
    "ETXTBSY": "Another program uses it: close that program, then try again.",
    "EXDEV": "Choose a folder on the same disk.",
}
"""What to do about an error of the system, by its name (not every system has every name)."""

_SEVERE = ("EIO", "EREMOTEIO", "ESTALE", "EROFS", "EMFILE", "ENFILE", "ENODEV", "ENOTCONN")
"""Errors that say the same wherever they come from, also wrapped into an error of a library."""


@contextmanager
def explain_errors(
    what: str, folder: Path, *, needed: int | None = None, field: str | None = None
) -> Iterator[None]:
    """Turn errors from writing files inside the block into a ``StudioError``.

    ``what`` names what is written (“the merged model”), ``needed`` is its size in bytes. Covers every
    ``OSError``, and a full disk as reported by libraries written in Rust; an error that names a file
    elsewhere, which was only read, keeps its own words.
    """
    try:
        yield
    except (StudioError, Stopped):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_full(error):
            raise
        if number_of(error) == errno.ENOMEM:  # a file that cannot be mapped, for instance
            raise
        if not is_full(error) and _is_elsewhere(error, folder):
            raise
        raise disk_error(what, folder, error, needed=needed, field=field) from error


def _is_elsewhere(error: Exception, folder: Path) -> bool:
    """Whether an error of the system names a file, and neither in this folder nor beside it."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str | bytes) or getattr(error, "filename2", None) is not None:
        return False
    place = os.path.abspath(os.fsdecode(name))
    return not Path(place).is_relative_to(os.path.abspath(folder.parent))


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
            hint=FREE_SPACE,
            field=field,
            code="disk_full",
            file=str(folder),
        )
    reason = getattr(error, "strerror", None) or str(error)
    return StudioError(
        f"{what} could not be written to {folder}: {reason}.",
        title="The folder cannot be written",
        hint=what_to_do(error) or "Choose another folder, or change its permissions.",
        field=field,
        code="not_writable",
        file=str(folder),
    )


def number_of(error: BaseException) -> int | None:
    """The POSIX number of an error of the system; libraries written in Rust or C++ say it only in their text."""
    code = windows_code(error)
    if code in _WINDOWS:
        return getattr(errno, _WINDOWS[code], None)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error)[:2000]) if code is None else None
    return int(found.group(2)) if found else None


def windows_code(error: BaseException) -> int | None:
    """The code of an error of Windows, which Python has as ``winerror`` and other libraries have in their text."""
    code = getattr(error, "winerror", None)
    if code is not None or (isinstance(error, OSError) and error.errno is not None):
        return code
    found = _NUMBER.search(str(error)[:2000])
    if found is None:
        return None
    names_windows = found.group(1).startswith("Win")
    is_code = names_windows or (found.group(1) == "os error" and sys.platform == "win32")
    return int(found.group(2)) if is_code else None


def what_to_do(error: BaseException) -> str:
    """What the user can do about an error of the system; empty if it is not one of those known here."""
    return _HINTS.get(errno.errorcode.get(number_of(error) or 0, ""), "")


def is_severe(error: BaseException) -> bool:
    """Whether the disk, its connection or a limit of the system is the cause, however it is wrapped."""
    return errno.errorcode.get(number_of(error) or 0) in _SEVERE


def is_full(error: BaseException) -> bool:
    """Whether an error means that no more bytes fit; Rust libraries say so only in their text."""
    return number_of(error) in _FULL or any(words in str(error) for words in _FULL_WORDS)


def free_bytes(folder: Path) -> int | None:
    """Free space where ``folder`` is or will be; ``None`` when that is unknown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None  # some file systems do not count


def refuse_full(what: str, folder: Path, needed: int, field: str | None = None) -> None:
    """Raise the ``StudioError`` of a full disk before anything is written, if ``needed`` bytes are not free where
    ``folder`` is or will be."""
    room = free_bytes(folder)
    if room is not None and room < needed:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise disk_error(what, folder, full, needed=needed, field=field)


def size_text(size: float) -> str:
    """Bytes in words: ``2.4 GiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
