"""Reading a run's events: from the start, and on as they are written.

The same reader serves the window, the terminal, the library and tests. It must never write into
the run folder and must cope with a line that is only half there.
"""

from __future__ import annotations

import time
from pathlib import Path

from studio.runs.events import Event, from_line
from studio.runs.folder import RunFolder
from studio.runs.state import RunState

_CHUNK_BYTES = 256 * 1024


class EventReader:
    """Tails ``events.jsonl``: each ``read`` gives what was added since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._waiting: list[bytes] = []

    def read(self, limit: int | None = None) -> list[Event]:
        """The next events (at most ``limit``); lines that are not events are passed over."""
        found: list[Event] = []
        while limit is None or len(found) < limit:
            if not self._waiting and not self._load():
                break
            room = len(self._waiting) if limit is None else limit - len(found)
            taken, self._waiting = self._waiting[:room], self._waiting[room:]
            parsed = (from_line(line.decode("utf-8", "replace")) for line in taken)
            found += [e for e in parsed if e is not None]
        return found

    def _load(self) -> bool:
        """Take the next whole lines; a line without its newline stays for the next time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_CHUNK_BYTES)
                while data and b"\n" not in data:
                    more = file.read(_CHUNK_BYTES)
                    if not more:
                        return False
                    data += more
        except OSError:
            return False
        end = data.rfind(b"\n") + 1
        if end == 0:
            return False
        self._offset += end
        self._waiting = data[:end].splitlines()
        return True


def read_state(folder: RunFolder) -> RunState:
    """The state of a run as it is now; a host that died shows as ``interrupted``."""
    state = RunState()
    running = folder.is_running()  # asked first: events of a host that ends meanwhile are read
    for event in EventReader(folder.events_path).read():
        state.apply(event)
    if state.status in ("preparing", "running") and not running:
        status = folder.status()
        if status == "interrupted":
            state.interrupt(_last_change(folder.events_path))
    return state


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
