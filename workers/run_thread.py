"""RunThread: a QThread that owns a run from start to end for the window.

It starts the run host, or attaches to one, or runs the engine on itself (for debugging), follows
the events and hands them over in batches from one 20 Hz beat. It must not touch a widget, and it
adds no event of its own. The run outlives it: ``detach`` leaves the host alone.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from PySide6.QtCore import QObject, QThread, QTimer, Signal, Slot

from studio.graph.registry import Registry, load_registry
from studio.runs.awake import kept_awake
from studio.runs.control import CommandReader, Control, Watcher, size_of
from studio.runs.environment import write_environment
from studio.runs.execute import execute, threads
from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.lock import HostLock
from studio.runs.sink import EventSink
from studio.runs.watch import Watch
from studio.system import device
from studio.system.settings import load_settings

Mode = Literal["host", "attach", "thread"]
BEAT_S = 0.05
CATCH_UP_S = 0.002  # between batches of earlier events, so that the receiver's event loop runs
PATIENCE_S = 1.0  # for the receiver, so that batches do not queue and block its other events
BATCH = 2000
MANY_BYTES = 1 << 20
REPORT_EVERY_S = 0.1

logger = logging.getLogger(__name__)
_running: set[RunThread] = set()


class RunThread(QThread):
    """A run in the background.

    ``events`` carries a list of ``Event``. Of a run that has many already, ``reading`` carries the
    fraction of them that was read, and ``earlier`` then an ``Earlier`` that takes their place; the
    later ones follow as ``events``. ``ended`` carries the status: what ``RunFinished``
    says, or ``interrupted``. It is emitted on the thread that made this object, after the last
    batch, when the QThread has ended. Methods may be called from any thread.
    """

    events = Signal(object)
    reading = Signal(float)
    earlier = Signal(object)
    ended = Signal(object)

    def __init__(
        self,
        folder: RunFolder,
        mode: Mode = "host",
        parent: QObject | None = None,
        *,
        leave_core: bool = True,
        registry: Registry | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName(f"run {folder.id}")
        self.folder = folder
        self.mode = mode
        self.status: str | None = None
        self._leave_core = leave_core
        self._registry = registry
        self._control = Control()
        # Commands given before the host has started also apply to it.
        self._commands_from = size_of(folder.commands_path)
        self._wishes: list[str] = []
        self._detached = threading.Event()
        self._wake = threading.Event()
        self._taken = threading.Event()
        self.events.connect(self._note_taken)
        self.finished.connect(self._tell_ended)

    # ------------------------------------------------------------ called by the window

    def start(self, priority: QThread.Priority = QThread.Priority.InheritPriority) -> None:
        """Start the thread. A reference is kept until it has ended."""
        self.setParent(None)
        _running.add(self)
        super().start(priority)

    def stop(self) -> None:
        """End the run within 10 s, whatever it is doing."""
        self._wish("stop")

    def suspend(self) -> None:
        """Write a checkpoint, then end the run."""
        self._wish("suspend")

    def command(self, name: str, **data: object) -> None:
        """Send another command to the run: ``save``, ``sample``, ``finish``."""
        if self.mode == "thread":
            self._control.request(name, dict(data))
        else:
            self.folder.command(name, **data)

    def detach(self) -> None:
        """Stop following and leave the host alone; ``ended`` is not emitted then. A run on the
        thread itself is stopped."""
        if self.mode == "thread":
            self.stop()
        else:
            self._detached.set()
        self._wake.set()

    def _wish(self, name: str) -> None:
        if self.mode == "thread":
            self._control.request(name)
        else:
            self._wishes.append(name)
        self._wake.set()

    # ------------------------------------------------------------ on the thread

    def run(self) -> None:
        """Called by Qt on the new thread."""
        try:
            if self.mode == "thread":
                self._run_here()
            else:
                self._follow_host()
        except Exception:  # finished is emitted anyway: the status must be set
            logger.exception("following %s failed", self.folder.id)
            self.status = self.status or "interrupted"

    def _follow_host(self) -> None:
        watch = Watch(self.folder, skip_progress=True)
        if self.mode == "host":
            watch = Watch.start(
                self.folder,
                leave_core=self._leave_core,
                low_priority=True,
                commands_from=self._commands_from,
                skip_progress=True,
            )
        if size_of(self.folder.events_path) > MANY_BYTES:
            self._read_earlier(watch)
        while watch.status is None and not self._detached.is_set():
            self._pass_on(watch)
            batch = watch.poll(BATCH)
            if batch:
                self.events.emit(batch)
            self._rest(behind=len(batch) >= BATCH)
        self._pass_on(watch)  # a Stop just before the window was closed
        self.status = watch.status

    def _read_earlier(self, watch: Watch) -> None:
        due = time.monotonic()

        def report(fraction: float) -> bool:
            nonlocal due
            self._pass_on(watch)
            if time.monotonic() >= due:
                due = time.monotonic() + REPORT_EVERY_S
                self.reading.emit(fraction)
            return not self._detached.is_set()

        found = watch.earlier(report)
        if not self._detached.is_set():
            self.earlier.emit(found)

    def _pass_on(self, watch: Watch) -> None:
        while self._wishes:
            name = self._wishes.pop(0)
            watch.stop() if name == "stop" else watch.suspend()

    def _rest(self, behind: bool) -> None:
        """Sleep until the next beat; when far behind, only until the last batch has been
        received."""
        if behind:
            self._taken.wait(PATIENCE_S)
        self._taken.clear()
        self._wake.wait(CATCH_UP_S if behind else BEAT_S)
        self._wake.clear()

    def _run_here(self) -> None:
        """The engine on this thread; a helper thread keeps the beat while a step is busy."""
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(done,), name="run-beat", daemon=True)
        lock = HostLock(self.folder.lock_path)
        if not lock.acquire(2.0):
            raise RuntimeError(f"{self.folder.id} is running already")
        reader = CommandReader(self.folder.commands_path, self._commands_from)
        watcher = Watcher(self._control, reader, lambda: None)  # a thread cannot be killed
        beat.start()
        watcher.start()
        sink = EventSink(self.folder)
        sink.open()
        try:
            registry = self._registry or load_registry()
            plan = self.folder.plan()
            device.use(device.wanted_device((s.type, s.settings) for s in plan.steps), hide=False)
            write_environment(self.folder, plan, threads())
            with kept_awake(load_settings().settings.keep_awake, sink.emit):
                self.status = execute(plan, self.folder, sink.emit, self._control, registry)
        finally:
            device.release()
            watcher.end()
            sink.close()
            lock.release()
            done.set()
            beat.join()

    def _beat(self, done: threading.Event) -> None:
        reader = EventReader(self.folder.events_path)
        last = False
        while not last:
            last = done.wait(BEAT_S)
            while batch := reader.read(BATCH):
                self.events.emit(batch)

    # ------------------------------------------------------------ back on the creator's thread

    @Slot(object)
    def _note_taken(self, events: object) -> None:
        """Let the thread read on once the other receivers are done: two threads that compute at the
        same time only wait for each other's interpreter lock."""
        del events
        QTimer.singleShot(0, self, self._taken.set)

    @Slot()
    def _tell_ended(self) -> None:
        self.wait()
        _running.discard(self)
        if self.status is not None:
            self.ended.emit(self.status)


def running_threads() -> tuple[RunThread, ...]:
    """Every RunThread that was started and has not ended."""
    return tuple(_running)


def detach_all(timeout_s: float = 10.0) -> None:
    """Before the program ends: leave every host alone and wait for the threads."""
    for thread in running_threads():
        thread.detach()
    for thread in running_threads():
        thread.wait(int(timeout_s * 1000))
        _running.discard(thread)
