"""Commands to a running run: stop, suspend, finish, save, sample.

``Control`` holds the requests; ``CommandReader`` reads them from ``commands.jsonl``; ``Watcher`` is
the host's thread that passes them on and enforces the time limit of a stop. This module does not
know what a step does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.system.stored_json import open_regular, parse

POLL_S = 0.1
STOP_LIMIT_S = 6.0
SUSPEND_LIMIT_S = 30.0
_LIMITS = {"stop": STOP_LIMIT_S, "suspend": SUSPEND_LIMIT_S}
ENDING = tuple(_LIMITS)
"""The commands that end a run."""


class Control:
    """The requests of the user; thread-safe."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler may request a stop while this lock is held.
        self._lock = threading.RLock()
        self._wish: str | None = None
        self._asked_at = 0.0
        self._commands: dict[str, deque[dict[str, Any]]] = {}
        self._given_up = threading.Event()

    def request(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Add a request. A stop overrides a suspend, never the other way round."""
        with self._lock:
            if name not in _LIMITS:
                self._commands.setdefault(name, deque()).append(dict(data or {}))
            elif self._wish is None or (self._wish == "suspend" and name == "stop"):
                self._wish, self._asked_at = name, time.monotonic()

    def stop_requested(self) -> bool:
        """Whether the run should end soon, by a stop or a suspend."""
        return self._wish is not None

    def stopped_status(self) -> str:
        """The status of a run that ends because of the request."""
        return "suspended" if self._wish == "suspend" else "stopped"

    def take(self, name: str) -> dict[str, Any] | None:
        """Remove and return the oldest command of this name, or ``None``."""
        with self._lock:
            waiting = self._commands.get(name)
            return waiting.popleft() if waiting else None

    def overdue(self) -> bool:
        """Whether the step has exceeded the time limit of the request."""
        wish = self._wish
        return wish is not None and time.monotonic() - self._asked_at > _LIMITS[wish]

    def give_up(self) -> None:
        """Forbid further commits: the process is about to be terminated."""
        self._given_up.set()

    @property
    def given_up(self) -> bool:
        """Whether the watcher is terminating the process."""
        return self._given_up.is_set()


class CommandReader:
    """Tails ``commands.jsonl`` from an offset: older commands were meant for an earlier host."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def folder_is_gone(self) -> bool:
        """Whether the run's folder has been deleted."""
        return not self._path.parent.exists()

    def read(self) -> list[dict[str, Any]]:
        """The commands since the last call."""
        try:
            with open_regular(self._path) as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [c for c in map(_command, data[:end].splitlines()) if c is not None]


def _command(line: bytes) -> dict[str, Any] | None:
    try:
        data = parse(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) and isinstance(data.get("command"), str) else None


def size_of(path: Path) -> int:
    """A file's length in bytes; 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class Watcher(threading.Thread):
    """Reads commands while the steps run; calls ``hard_stop`` when a request is overdue."""

    def __init__(
        self, control: Control, reader: CommandReader, hard_stop: Callable[[], None]
    ) -> None:
        super().__init__(name="run-commands", daemon=True)
        self._control = control
        self._reader = reader
        self._hard_stop = hard_stop
        self._done = threading.Event()

    def run(self) -> None:
        """Poll until ``end`` is called."""
        while not self._done.wait(POLL_S):
            for command in self._reader.read():
                self._control.request(str(command["command"]), command)
            if self._reader.folder_is_gone():
                self._control.request("stop")
            if self._control.overdue():
                self._hard_stop()
                return

    def end(self) -> None:
        """End the thread; no hard stop happens after this returns."""
        self._done.set()
        if threading.current_thread() is not self:
            self.join()
