"""Following a run to its end and stopping it on request; shared by window and terminal.

A ``Watch`` is polled; it has no thread and no Qt. It detects a dead host, and a stop that the host
did not perform in time: then it kills the host from outside, which also works if the step is stuck
in a call that blocks all other threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Callable

from studio.events import Event, event
from studio.runs import host, processes
from studio.runs.catch_up import Earlier, earlier_events
from studio.runs.control import SUSPEND_LIMIT_S, size_of
from studio.runs.failures import failure
from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.lock import HostLock
from studio.runs.sink import EventSink

KILL_AFTER_S = {"stop": 9.0, "suspend": SUSPEND_LIMIT_S + 3.0}
LINGER_S = 5.0
TIDY_PATIENCE_S = 1.0
_LOCK_EVERY_S = 0.25


class Watch:
    """One run under watch. ``process`` is the host if this process started it; what lies in the
    first ``past`` bytes of the events was written by earlier executions of the run. ``skip_progress``
    is that of ``EventReader``."""

    def __init__(
        self,
        folder: RunFolder,
        process: subprocess.Popen[bytes] | None = None,
        past: int = 0,
        *,
        skip_progress: bool = False,
    ) -> None:
        self.folder = folder
        self.status: str | None = None
        self._process = process
        self._past = past
        self._reader = EventReader(folder.events_path, skip_progress=skip_progress)
        self._said: str | None = None
        self._said_at = 0.0
        self._pid: int | None = None
        self._asked: str | None = None
        self._asked_at = 0.0
        self._looked_at = 0.0
        self._alive = True
        self._refused: Event | None = None
        self._code: int | None = None

    @staticmethod
    def start(
        folder: RunFolder,
        *,
        leave_core: bool = False,
        low_priority: bool = False,
        commands_from: int | None = None,
        skip_progress: bool = False,
    ) -> Watch:
        """Start a host for a run, new or resumed, and watch it. If none can be started, because the
        run folder cannot be written, the watch reports that as a failure of the run."""
        past = size_of(folder.events_path)
        try:
            process = host.start(
                folder,
                leave_core=leave_core,
                low_priority=low_priority,
                commands_from=commands_from,
            )
        except OSError as error:
            watch = Watch(folder, None, past, skip_progress=skip_progress)
            watch._refused = event("StepFailed", **failure(error, "The run", folder.path))
            return watch
        return Watch(folder, process, past, skip_progress=skip_progress)

    def earlier(self, report: Callable[[float], bool]) -> Earlier:
        """The events that have been written so far, reduced to their state. ``report`` is called with
        the fraction that was read; reading ends early if it returns ``False``. ``poll`` returns the later
        events."""
        end = self._past or size_of(self.folder.events_path)
        found = earlier_events(self._reader, end, lambda position: report(position / max(1, end)))
        for bound in [] if self._past else found.bounds:
            self._note(bound)
        return found

    def catch_up(self, limit: int | None = None) -> list[Event]:
        """The next events of earlier executions; empty after the last one. ``poll`` returns them
        first if this is not called."""
        return self._reader.read(limit, self._past)

    def stop(self) -> None:
        """Ask for a stop; it is enforced by later polls."""
        self._ask("stop")

    def suspend(self) -> None:
        """Ask for a checkpoint and then the end."""
        self._ask("suspend")

    def finish(self) -> None:
        """Ask the training to end with its current step; the later steps of the run follow."""
        self.folder.command("finish")

    def _ask(self, name: str) -> None:
        with contextlib.suppress(OSError):  # then the host is killed after the time limit
            self.folder.command(name)
        if self._asked is None or (name == "stop" and self._asked == "suspend"):
            self._asked, self._asked_at = name, time.monotonic()

    def kill(self) -> None:
        """Kill the host now; the run counts as stopped."""
        self._asked = self._asked or "stop"
        host.kill(self.folder, self._process)

    def poll(self, limit: int | None = None) -> list[Event]:
        """The next events. If ``status`` is set after a poll, the run has ended and all its events
        have been returned."""
        if self._refused is not None:
            return self._give_up(self._refused)
        # Checked first, so that the last events of a dying host are read.
        alive = self._host_alive()
        events = self._read(limit)
        if self.status is not None or (limit is not None and len(events) >= limit):
            return events
        if not alive:
            return events + self._bury()
        if self._said is not None:
            self._let_go()
        elif self._overdue():
            host.kill(self.folder, self._process)
        return events

    def _read(self, limit: int | None) -> list[Event]:
        past = self.catch_up(limit)
        events = self._reader.read(None if limit is None else limit - len(past))
        for found in events:
            self._note(found)
        return past + events

    def _note(self, found: Event) -> None:
        if found.name == "RunFinished":
            self._said, self._said_at = str(found.get("status")), time.monotonic()
        elif found.name == "RunStarted":
            self._said, self._pid = None, found.get("pid")

    def _give_up(self, refused: Event) -> list[Event]:
        """No host could be started, or it could not write: only this watch can report it."""
        events = [*self.catch_up(), refused, event("RunFinished", status="failed", seconds=0.0)]
        self.status = "failed"
        return events

    def _bury(self) -> list[Event]:
        """The host has died: read its last events, clean up, and determine the status."""
        events = self._read(None)
        if self._said is None:
            _clean_up(self.folder, stopped=self._asked is not None)
            events += self._read(None)
        if self._said is None and self._code == host.UNWRITABLE:
            return events + self._give_up(_unwritable(self.folder))
        self.status = self._said or "interrupted"
        return events

    def _let_go(self) -> None:
        """The run has finished: a host that hangs in a library is killed, unless it is a new host
        that has just resumed the run."""
        known = host.host_of(self.folder)
        same = known is None or self._pid is None or known[0] == self._pid
        if same and time.monotonic() - self._said_at > LINGER_S:
            host.kill(self.folder, self._process)

    def _overdue(self) -> bool:
        asked = self._asked
        return asked is not None and time.monotonic() - self._asked_at > KILL_AFTER_S[asked]

    def _host_alive(self) -> bool:
        if not self._alive:
            return False
        if self._process is not None:
            if self._process.poll() is not None:
                self._code = self._process.returncode
                # Another host may hold the run: then follow that one.
                self._process, self._alive = None, self._said is None and self.folder.is_running()
        elif time.monotonic() - self._looked_at > _LOCK_EVERY_S:
            self._looked_at = time.monotonic()
            self._alive = self.folder.is_running() or self.folder.status() == "preparing"
        return self._alive


def _unwritable(folder: RunFolder) -> Event:
    """The failure of a host that could not write its events, with the reason if it persists."""
    error = OSError(errno.EIO, os.strerror(errno.EIO), str(folder.events_path))
    try:
        os.close(os.open(folder.events_path, os.O_WRONLY | os.O_APPEND))
    except OSError as found:
        error = found
    return event("StepFailed", **failure(error, "The run", folder.path))


def _clean_up(folder: RunFolder, *, stopped: bool) -> None:
    """After a host has died: kill its helpers, remove partial results, and report ``stopped`` if a
    stop was requested. The lock excludes other followers and a new host."""
    known = host.host_of(folder)
    if known is not None and not processes.is_alive(*known):
        processes.kill_host(*known, processes.mark(folder.path))
    lock = HostLock(folder.lock_path)
    with contextlib.suppress(OSError):  # the folder was deleted, or the disk is full
        if not lock.acquire(TIDY_PATIENCE_S):
            return
        try:
            folder.remove_staging()
            EventSink(folder).close()
            if stopped and folder.finished_status() is None:
                seconds = time.time() - known[1] if known else 0.0
                folder.append(event("RunFinished", status="stopped", seconds=round(seconds, 3)))
        finally:
            lock.release()
