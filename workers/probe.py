"""The probe of a training for the window: two real steps in a helper process, with progress and cancel.

A pool thread waits for the helper; signals reach the window's thread. It must not touch a widget.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, QThreadPool, Signal

from studio.errors import StudioError
from studio.estimate.ask import ask
from studio.estimate.graph import Estimate
from studio.estimate.job import Facts, Job
from workers.task import Task, run_task


class Probe(QObject):
    """One probe. ``progress`` carries the title of the current phase, ``done`` the new
    ``Estimate``, ``failed`` a ``StudioError``; after ``cancel`` none of them comes."""

    progress = Signal(object)
    done = Signal(object)
    failed = Signal(object)

    def __init__(self, node: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.node = node
        self._end: Callable[[], None] | None = None
        self._cancelled = False
        self._task: Task | None = None

    def start(self, job: Job, facts: Facts) -> None:
        """Start the probe."""
        self._task = run_task(lambda: self._work(job, facts), self._took, self._missed)

    def cancel(self) -> None:
        """End the helper; no signal is emitted any more."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()
        if self._end is not None:
            self._end()

    def _work(self, job: Job, facts: Facts) -> Estimate | None:
        """Run on the pool thread, which only waits: its place in the pool is released to other
        work."""
        pool = QThreadPool.globalInstance()
        pool.releaseThread()
        try:
            return self._followed(job, facts)
        finally:
            pool.reserveThread()

    def _followed(self, job: Job, facts: Facts) -> Estimate | None:
        asked = ask("probe", job, facts, self._started)
        while not self._cancelled:
            try:
                title = next(asked)
            except StopIteration as end:
                found: Estimate = end.value
                return found
            if not self._cancelled:
                self.progress.emit(title)
        asked.close()
        return None

    def _started(self, end: Callable[[], None]) -> None:
        self._end = end
        if self._cancelled:
            end()

    def _took(self, found: Estimate | None) -> None:
        if found is not None:
            self.done.emit(found)

    def _missed(self, error: Exception) -> None:
        if not isinstance(error, StudioError):
            raise error
        self.failed.emit(error)
