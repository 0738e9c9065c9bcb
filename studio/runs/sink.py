"""Writes a run's events to the disk.

It guarantees that ``RunFinished`` is the last event and is written once, either by the engine or by
the watcher that ends a stuck step. A small reserve file is deleted when the disk is full, so that
the end of a run can still be written. It must not decide anything about the run.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from studio.events import Event
from studio.runs.folder import RunFolder
from studio.system import busy_files

RESERVE_BYTES = 256 * 1024
_LAST_WORDS = ("StepFailed", "RunFinished")
_PATIENCE_S = 1.0

logger = logging.getLogger(__name__)


class EventSink:
    """Appends events to a run folder, in order, from any thread."""

    def __init__(self, folder: RunFolder, listener: Callable[[Event], None] | None = None) -> None:
        self._folder = folder
        self._listener = listener
        self._lock = threading.Lock()
        self._reserve = folder.path / "reserve"
        self._broken: OSError | None = None
        self.finished: Event | None = None

    def open(self) -> None:
        """Create the reserve file; if there is no room for it, the first event reports the
        error."""
        self.close()
        with contextlib.suppress(OSError), self._reserve.open("xb") as file:
            file.write(b"\0" * RESERVE_BYTES)

    def close(self) -> None:
        """Delete the reserve file."""
        with contextlib.suppress(OSError):
            busy_files.remove(self._reserve)

    def emit(self, event: Event) -> None:
        """Write one event. After ``RunFinished`` it is dropped; raises ``OSError`` if writing
        fails, and then for every event except the last ones."""
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
        if self._listener is not None:
            self._listener(event)

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
