"""The one door through which a run's events reach the disk.

It guarantees that nothing follows ``RunFinished`` and that it is written once, whoever asks first:
the engine or the watcher that ends a stuck step. A small reserve file is given back when the disk
is full, so that the end of a run can still be told. It must not decide anything about the run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable

from studio.events import Event
from studio.runs.folder import RunFolder

RESERVE_BYTES = 256 * 1024
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LAST_WORDS = ("StepFailed", "RunFinished")
_PATIENCE_S = 1.0

logger = logging.getLogger(__name__)


class EventSink:
    """Appends events to a run folder, in order, from any thread."""

    def __init__(self, folder: RunFolder, told: Callable[[Event], None] | None = None) -> None:
        self._folder = folder
        self._told = told
        self._lock = threading.Lock()
        self._reserve = folder.path / "reserve"
        self._broken: OSError | None = None
        self.finished: Event | None = None

    def open(self) -> None:
        """Put the reserve aside; a disk without room for it is told by the first event."""
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(b"\0" * RESERVE_BYTES)

    def close(self) -> None:
        """Give the reserve back."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    def emit(self, event: Event) -> None:
        """Write one event. After ``RunFinished`` it is dropped; raises ``OSError`` when the disk
        refuses, and then for every event but the last words."""
        # A write that hangs must not keep the watcher from ending the process.
        owned = self._lock.acquire(timeout=_PATIENCE_S)
        try:
            if self.finished is not None:
                return
            self._write(event)
            if event.name == "RunFinished":
                self.finished = event
        finally:
            if owned:
                self._lock.release()
        if self._told is not None:
            self._told(event)

    def _write(self, event: Event) -> None:
        if self._broken is not None and event.name not in _LAST_WORDS:
            raise self._broken
        try:
            self._folder.append(event)
        except OSError as error:
            if self._broken is None:
                logger.error("%s could not be written: %s", event.name, error)
            self._broken = error
            self.close()
            if event.name in _LAST_WORDS:
                self._folder.append(event)
            else:
                raise
