"""The host's lock: held while the run host lives, released by the system when it dies.

It uses record locks instead of ``flock``: forked children do not inherit them, so a worker that
outlives a killed host cannot make the run look alive. They are lost when the process closes any
descriptor of the file, so nothing else may open ``host.lock``. Anything else in its place, a folder
or a link, cannot be a lock: it is renamed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import threading
import time
from pathlib import Path

from studio.system.busy_files import TIDY_PATIENCE_S, patiently
from studio.system.disk import windows_code

# Beyond any content: Windows locks are mandatory and would block readers of the file.
_OFFSET = 1 << 30
RETRY_S = 0.05
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SHARING_VIOLATION = (32, 33)
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

_held: dict[str, int] = {}
_guard = threading.Lock()


class HostLock:
    """An exclusive lock on a file, for one run at a time."""

    def __init__(self, path: Path) -> None:
        self._key = _key(path)

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Acquire the lock; ``False`` if another process still holds it after the timeout. Raises
        ``OSError`` when the file cannot be made or locked."""
        deadline = time.monotonic() + timeout_s
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_S)
        return True

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        with _guard:
            handle = _held.pop(self._key, None)
            if handle is not None:
                os.close(handle)

    def _try(self) -> bool:
        with _guard:
            if self._key in _held:
                return False
            _move_aside(self._key)
            flags = os.O_RDWR | os.O_CREAT | _NO_FOLLOW
            handle = patiently(lambda: os.open(self._key, flags, 0o644), TIDY_PATIENCE_S)
            taken = False
            try:
                taken = _take(handle)
            finally:
                if not taken:
                    os.close(handle)
            if taken:
                _held[self._key] = handle
            return taken


def _key(path: Path) -> str:
    """The path with the links of its folders resolved, but not one in place of the file."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _move_aside(path: str) -> None:
    if os.path.lexists(path) and not _is_file(path):
        os.rename(path, f"{path}.{secrets.token_hex(4)}.unusable")


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock; the check does not affect that process."""
    key = _key(path)
    with _guard:
        if key in _held:
            return True
        if not _is_file(key):
            return False
        try:
            handle = patiently(lambda: os.open(key, os.O_RDWR | _NO_FOLLOW), TIDY_PATIENCE_S)
        except OSError as error:
            # A run must not look dead while a virus scanner reads its files.
            return windows_code(error) in _SHARING_VIOLATION
        try:
            return not _is_free(handle)
        finally:
            os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        os.lseek(handle, _OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _is_free(handle: int) -> bool:
        if not _take(handle):
            return False
        os.lseek(handle, _OFFSET, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        return True

else:

    def _take(handle: int) -> bool:
        os.lseek(handle, _OFFSET, os.SEEK_SET)
        try:
            os.lockf(handle, os.F_TLOCK, 1)
        except OSError as error:
            if error.errno not in _BUSY:  # a network file system without locks
                raise
            return False
        return True

    def _is_free(handle: int) -> bool:
        os.lseek(handle, _OFFSET, os.SEEK_SET)
        try:
            os.lockf(handle, os.F_TEST, 1)
        except OSError:
            return False
        return True
