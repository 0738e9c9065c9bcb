"""Reading a run's events, from the start and while they are written.

The same reader serves the window, the terminal, the library and tests. It must never write into the
run folder and must handle a line that is only partly written.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from studio.events import Event, from_line
from studio.runs.state import RunState
from studio.system.stored_json import open_regular

_CHUNK_BYTES = 256 * 1024
_LONGEST_LINE_BYTES = 64 * 1024 * 1024


class EventReader:
    """Tails ``events.jsonl``: each ``read`` gives what was added since the last one.

    ``position`` is how many bytes have been given out as events.
    """

    def __init__(self, path: Path) -> None:
        self.position = 0
        self._path = path
        self._loaded = 0
        self._waiting: deque[bytes] = deque()

    def read(self, limit: int | None = None, end: int | None = None) -> list[Event]:
        """The next events, at most ``limit`` and none that starts at byte ``end`` or later; lines
        that are not events are passed over."""
        found: list[Event] = []
        while limit is None or len(found) < limit:
            if end is not None and self.position >= end:
                break
            if not self._waiting and not self._load():
                break
            line = self._waiting.popleft()
            self.position += len(line) + 1
            event = from_line(line.decode("utf-8", "replace"))
            if event is not None:
                found.append(event)
        return found

    def _load(self) -> bool:
        """Read the next complete lines; a line without its newline is left for the next call."""
        try:
            with open_regular(self._path) as file:
                file.seek(self._loaded)
                data = file.read(_CHUNK_BYTES)
                while data and b"\n" not in data:
                    more = file.read(len(data))
                    if not more or len(data) > _LONGEST_LINE_BYTES:
                        return False
                    data += more
        except OSError:
            return False
        end = data.rfind(b"\n") + 1
        if end == 0:
            return False
        self._loaded += end
        self._waiting.extend(data[:end].split(b"\n")[:-1])
        return True


def state_at_present(events: Path) -> RunState:
    """The state of a run after the events that have been written so far."""
    state = RunState()
    for event in EventReader(events).read():
        state.apply(event)
    return state
