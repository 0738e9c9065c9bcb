"""The installation of an optional package for the window: pip in a child process, with progress and a way to stop.

A pool thread waits for it; signals reach the window's thread. It must not touch a widget.
"""

from __future__ import annotations

from threading import Event

from PySide6.QtCore import QObject, QThreadPool, Signal

from studio.errors import Stopped, StudioError
from studio.system import pip_install
from studio.system.optional_packages import OptionalPackage
from workers.task import Task, run_task


class Installing(QObject):
    """One installation. ``progress`` carries what is being done and the share of the download, ``None`` while it is
    unknown; ``done`` the sentence about the result, ``failed`` a ``StudioError``, ``stopped`` nothing."""

    progress = Signal(object, object)
    done = Signal(object)
    failed = Signal(object)
    stopped = Signal()

    def __init__(self, package: OptionalPackage, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.package = package
        self._stop = Event()
        self._task: Task | None = None

    @property
    def busy(self) -> bool:
        """Whether it is at work."""
        return self._task is not None

    def start(self) -> None:
        """Start it."""
        self._task = run_task(self._work, self._took, self._missed)

    def stop(self) -> None:
        """End the download; what is downloaded completely is still installed."""
        self._stop.set()

    def _work(self) -> str:
        """Run on the pool thread, which only waits: its place in the pool is released to other work."""
        pool = QThreadPool.globalInstance()
        pool.releaseThread()
        try:
            return pip_install.install(self.package, self.progress.emit, self._stop.is_set)
        finally:
            pool.reserveThread()

    def _took(self, sentence: str) -> None:
        self._task = None
        self.done.emit(sentence)

    def _missed(self, error: Exception) -> None:
        self._task = None
        if isinstance(error, Stopped):
            self.stopped.emit()
        elif isinstance(error, StudioError):
            self.failed.emit(error)
        else:
            raise error
