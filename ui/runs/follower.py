"""One run in the window: its folder, the thread that follows it, and its state.

Batches of events from ``RunThread`` are applied to a ``RunState`` here, on the main thread, and
passed on once per batch. It knows no panels.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal, Slot

from studio.errors import StudioError
from studio.events import Event
from studio.runs.catch_up import Earlier
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan
from studio.runs.state import RunState
from studio.runs.status import run_status
from studio.runs.story import Story
from studio.shown_text import MOST_IN_QUOTES, line
from workers.run_thread import RunThread

WAIT_MS = 5000


class RunFollower(QObject):
    """Follows one run until it ends or is detached.

    ``advanced`` carries a batch after it was applied; ``ended`` the status. ``replaced`` says that
    ``state`` is another object, which holds the earlier events; while they are being read, ``read`` is
    the fraction so far, and ``reading`` says that it changed. ``story`` keeps the events for a log
    panel that shows this run later. ``own`` tells whether it is a run of the open project; ``ran`` holds the
    fingerprints of its steps, if its plan can be read.
    """

    advanced = Signal(object)
    reading = Signal()
    replaced = Signal()
    ended = Signal(object)

    def __init__(self, thread: RunThread, folder: RunFolder, parent: QObject) -> None:
        super().__init__(parent)
        self.folder = folder
        self.state = RunState()
        self.own = True
        plan = _plan(folder)
        self.name = line(plan.name, MOST_IN_QUOTES) if plan is not None else folder.id
        self.ran = {s.node: s.fingerprint for s in plan.steps} if plan is not None else None
        self._past = 0.0 if thread.mode == "attach" else folder.last_event_at()
        self.story = Story()
        self.attached = thread.mode == "attach"
        self.stopping = False
        self.finishing = False
        self.over = False
        self.read: float | None = None
        self._thread = thread
        thread.reading.connect(self._note_reading)
        thread.earlier.connect(self._take_earlier)
        thread.events.connect(self._take)
        thread.ended.connect(self._end)

    def start(self) -> None:
        """Start following (and running, unless the thread only attaches)."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the run is running and followed."""
        return not self.over

    @property
    def status(self) -> str:
        """The status of the run; while a resumed one starts, its events are those of its earlier execution."""
        state = self.state
        if self.alive and 0.0 < state.last_time <= self._past:
            return "stopping" if self.stopping else "preparing"
        return run_status(state.status, self.alive, self.stopping)

    def stop(self) -> None:
        """Request a stop with a checkpoint."""
        if not self.stopping and not self.over:
            self.stopping = True
            self._thread.stop()

    def finish(self) -> None:
        """Ask the training to end with its current step."""
        if not self.finishing and not self.over:
            self.finishing = True
            self._thread.command("finish")

    def sample(self, prompts: Sequence[str] = ()) -> None:
        """Request answers of the current model; by default to the prompts of the project."""
        if not self.over:
            self._thread.command("sample", prompts=list(prompts))

    def let_go(self) -> None:
        """Stop following; a run in a separate host continues."""
        self.over = True
        self._thread.detach()
        self._thread.wait(WAIT_MS)

    @Slot(float)
    def _note_reading(self, fraction: float) -> None:
        self.read = fraction
        self.reading.emit()

    @Slot(object)
    def _take_earlier(self, earlier: Earlier) -> None:
        self.read = None
        self.state = earlier.state
        self.story = earlier.story
        self.replaced.emit()

    @Slot(object)
    def _take(self, events: list[Event]) -> None:
        for event in events:
            self.state.apply(event)
            self.story.add(event)
        self.advanced.emit(events)

    @Slot(object)
    def _end(self, status: str) -> None:
        if self.over:
            return
        self.over = True
        if status == "interrupted" and self.state.status in ("running", "preparing"):
            self.state.interrupt(self.state.last_time)
        self.stopping = False
        self.ended.emit(status)


def _plan(folder: RunFolder) -> Plan | None:
    try:
        return folder.plan()
    except StudioError:
        return None
