"""The host's lock: held while the run host lives, released by the system when it dies.

It uses record locks instead of ``flock``: forked children do not inherit them, so a worker that
outlives a killed host cannot make the run look alive. They are lost when the process closes any
descriptor of the file, so nothing else may open ``host.lock``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

# Beyond any content: Windows locks are mandatory and would block readers of the file.
_OFFSET = 1 << 30
RETRY_S = 0.05

_held: dict[str, int] = {}
_guard = threading.Lock()


class HostLock:
    """An exclusive lock on a file, for one run at a time."""

    def __init__(self, path: Path) -> None:
        self._key = str(path.resolve())

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Acquire the lock; ``False`` if another process still holds it after the timeout."""
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
            handle = os.open(self._key, os.O_RDWR | os.O_CREAT, 0o644)
            if _take(handle):
                _held[self._key] = handle
                return True
            os.close(handle)
            return False


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock; the check does not affect that process."""
    key = str(path.resolve())
    with _guard:
        if key in _held:
            return True
        try:
            handle = os.open(key, os.O_RDWR)
        except OSError:
            return False
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
        except OSError:
            return False
        return True

    def _is_free(handle: int) -> bool:
        os.lseek(handle, _OFFSET, os.SEEK_SET)
        try:
            os.lockf(handle, os.F_TEST, 1)
        except OSError:
            return False
        return True
