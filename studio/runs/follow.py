"""Reading a run's events, from the start and while they are written.

The same reader serves the window, the terminal, the library and tests. It must never write into the
run folder and must handle a line that is only partly written.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.events import Event, from_line
from studio.runs.state import RunState
from studio.system.stored_json import open_regular

_CHUNK_BYTES = 256 * 1024
_LONGEST_LINE_BYTES = 64 * 1024 * 1024


class EventReader:
    """Tails ``events.jsonl``: each ``read`` gives what was added since the last one.

    ``position`` is how many bytes have been given out as events. With ``skip_progress``, a
    ``Progress`` that was followed by another one of its phase when it was read is left out: a reader
    that shows the state of a long run needs only the newest.
    """

    def __init__(self, path: Path, *, skip_progress: bool = False) -> None:
        self.position = 0
        self._path = path
        self._skip_progress = skip_progress
        self._loaded = 0
        self._waiting: deque[tuple[int, bytes]] = deque()

    def read(self, limit: int | None = None, end: int | None = None) -> list[Event]:
        """The next events, at most ``limit`` and none that starts at byte ``end`` or later; lines
        that are not events are passed over."""
        with no_collection():
            return self._read(limit, end)

    def read_lines(self, end: int) -> list[bytes] | None:
        """The next lines that start before byte ``end``, without those that are left out; ``None`` at
        the end."""
        if self.position >= end or not (self._waiting or self._load()):
            return None
        found = []
        while self._waiting and self.position < end:
            size, line = self._waiting.popleft()
            self.position += size
            if line:
                found.append(line)
        return found

    def _read(self, limit: int | None, end: int | None) -> list[Event]:
        found: list[Event] = []
        while limit is None or len(found) < limit:
            if end is not None and self.position >= end:
                break
            if not self._waiting and not self._load():
                break
            size, line = self._waiting.popleft()
            self.position += size
            event = from_line(line) if line else None
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
        lines = data[:end].split(b"\n")[:-1]
        passed_over = _outdated(lines) if self._skip_progress else set()
        self._waiting.extend(
            (len(line) + 1, b"" if i in passed_over else line) for i, line in enumerate(lines)
        )
        return True


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the cyclic garbage collection: thousands of new events would start it again and again,
    and none of them is garbage."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_PROGRESS = b'{"event": "Progress"'


def _outdated(lines: list[bytes]) -> set[int]:
    """The positions of ``Progress`` lines that are followed by one of the same node and phase."""
    seen: set[bytes] = set()
    outdated: set[int] = set()
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if line.startswith(_PROGRESS):
            of = line[line.find(b'"node"') : line.find(b'"done"')]
            outdated.add(index) if of in seen else seen.add(of)
    return outdated


def state_at_present(events: Path) -> RunState:
    """The state of a run after the events that have been written so far."""
    state = RunState()
    for event in EventReader(events).read():
        state.apply(event)
    return state
