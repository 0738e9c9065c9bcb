"""One-off work in the background: ``run_task(function, done, failed)``.

The function runs on a pool thread; ``done`` or ``failed`` is called on the thread that called
``run_task`` (the main thread), also when it is a plain function. A receiver that was destroyed
meanwhile is not called. The function must not touch a widget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal, Slot
from shiboken6 import isValid

Done = Callable[[Any], object]
Failed = Callable[[Exception], object]

_waiting: set[Task] = set()


class Task(QObject):
    """A submitted task. ``cancel`` drops the result; the function itself continues."""

    _settled = Signal(object, object)

    def __init__(self, function: Callable[[], Any], done: Done | None, failed: Failed | None):
        super().__init__()
        self._function = function
        self._done = done
        self._failed = failed
        self._cancelled = False
        self._settled.connect(self._deliver)  # to this object's thread: never the pool's

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled; long functions may check it."""
        return self._cancelled

    def cancel(self) -> None:
        """Neither ``done`` nor ``failed`` is called from now on."""
        self._cancelled = True

    def work(self) -> None:
        """Called on the pool thread."""
        try:
            result, error = self._function(), None
        except Exception as caught:
            result, error = None, caught
        self._settled.emit(result, error)

    @Slot(object, object)
    def _deliver(self, result: object, error: object) -> None:
        _waiting.discard(self)
        if self._cancelled:
            return
        if error is None:
            _call(self._done, result)
        elif self._failed is not None:
            _call(self._failed, error)
        else:
            assert isinstance(error, Exception)
            raise error  # an unexpected bug: Qt passes it to sys.excepthook


def _call(receiver: Callable[..., object] | None, value: object) -> None:
    owner = getattr(receiver, "__self__", None)
    if receiver is None or (isinstance(owner, QObject) and not isValid(owner)):
        return
    receiver(value)


class _Runnable(QRunnable):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def run(self) -> None:
        """Called by the pool."""
        self._task.work()


def run_task(
    function: Callable[[], Any], done: Done | None = None, failed: Failed | None = None
) -> Task:
    """Run ``function`` in the background; without ``failed``, an error reaches
    ``sys.excepthook``."""
    task = Task(function, done, failed)
    _waiting.add(task)
    QThreadPool.globalInstance().start(_Runnable(task))
    return task


def wait_for_tasks(timeout_s: float = 5.0) -> bool:
    """Before the program ends: drop every result and wait for the functions."""
    for task in tuple(_waiting):
        task.cancel()
    _waiting.clear()
    return QThreadPool.globalInstance().waitForDone(int(timeout_s * 1000))
