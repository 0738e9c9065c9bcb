"""The summary of a run for lists, read from the first and last events.

Reading all events would be too slow for a list of two hundred runs.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from studio.errors import StudioError
from studio.events import Event, from_line
from studio.export_folder.parity import worst
from studio.runs.folder import RunFolder
from studio.runs.outcome import UNFINISHED, ended_words, resumed_words
from studio.runs.state import RunState
from studio.runs.status import checked_status
from studio.shown_text import MOST_IN_QUOTES, line
from studio.system.stored_json import open_regular

TAIL_BYTES = 64 * 1024
HEAD_BYTES = 8 * 1024
RESUME_BYTES = 2 * 1024 * 1024
"""How far back a resume is looked for: more than ten thousand steps."""


@dataclass(frozen=True)
class RunSummary:
    """A row of the list of runs; times are Unix seconds. ``ended`` says where an unfinished run ended,
    ``resumed`` after which step the run was resumed, ``verdict`` what the checks of its exports found."""

    folder: RunFolder
    name: str
    status: str
    started: float | None
    seconds: float | None
    loss: float | None
    ended: str = ""
    resumed: str = ""
    verdict: str = ""

    @property
    def shown(self) -> str:
        """The key of ``RUN_LOOKS`` with which it is shown."""
        return checked_status(self.status, self.verdict)


def summarize(folder: RunFolder) -> RunSummary:
    """The current summary of a run."""
    first = _events(folder.events_path, HEAD_BYTES, head=True)
    last = _events(folder.events_path, TAIL_BYTES, head=False)
    started = first[0].time if first else _stamp(folder.id)
    finished = next((e for e in reversed(last) if e.name == "RunFinished"), None)
    seconds = _number(finished.get("seconds")) if finished else None
    if seconds is None and started is not None and last:
        seconds = last[-1].time - started
    losses = (
        _number(e.get("loss")) for e in reversed(last) if e.name == "Metric" and "loss" in e.data
    )
    loss = next(losses, None)
    status = folder.status()
    resumed = _resumed_and_checked(folder.events_path)
    return RunSummary(
        folder,
        _name(folder, first),
        status,
        started,
        seconds,
        loss if loss is not None else _last_loss(folder.events_path),
        _ended(first, last, status, resumed),
        resumed_words(resumed),
        worst([str(check.get("verdict")) for check in resumed.checks]),
    )


def _last_loss(path: Path) -> float | None:
    """The last loss of a run whose exports and evaluations have reported much since."""
    for line_ in reversed(_lines(path, RESUME_BYTES, head=False)):
        if b'"Metric"' in line_ and b'"loss"' in line_:
            event = from_line(line_)
            if event is not None and event.name == "Metric":
                return _number(event.get("loss"))
    return None


def _resumed_and_checked(path: Path) -> RunState:
    """A state that only knows of the resumes of the run, and of the checks of its exports."""
    state = RunState()
    names = ("TrainResumed", "RunStarted", "ExportChecked")
    for line_ in _lines(path, RESUME_BYTES, head=False):
        if any(name.encode() in line_ for name in names):
            event = from_line(line_)
            if event is not None and event.name in names:
                state.apply(event)
    return state


def _ended(first: list[Event], last: list[Event], status: str, resumed: RunState) -> str:
    """Where an unfinished run ended, from its first and last events."""
    if status not in UNFINISHED:
        return ""
    state = RunState()
    for event in [*(e for e in first if e.name == "RunStarted"), *last]:
        if event.name in ("Phase", "Progress", "Metric") and state.current is None:
            state.current = event.node  # it started before the last events
        state.apply(event)
    if status == "interrupted":
        state.interrupt(state.last_time)
    state.resumes, state.resumed = resumed.resumes, resumed.resumed
    return ended_words(state)


def changed_at(folder: RunFolder) -> tuple[int, int]:
    """A stamp that changes whenever the summary may have changed."""
    try:
        stat = folder.events_path.stat()
        return stat.st_mtime_ns, stat.st_size
    except OSError:
        return 0, 0


def _name(folder: RunFolder, first: list[Event]) -> str:
    name = next((e.get("name") for e in first if e.name == "RunStarted"), None)
    if name:
        return line(str(name), MOST_IN_QUOTES)
    try:
        return line(folder.plan().name, MOST_IN_QUOTES)
    except StudioError:
        return folder.id


def _events(path: Path, size: int, *, head: bool) -> list[Event]:
    return [e for e in map(from_line, _lines(path, size, head=head)) if e is not None]


def _lines(path: Path, size: int, *, head: bool) -> list[bytes]:
    try:
        with open_regular(path) as file:
            if not head:
                end = file.seek(0, 2)
                file.seek(max(0, end - size))
            return file.read(size).splitlines()
    except OSError:
        return []


def _stamp(run_id: str) -> float | None:
    try:
        return time.mktime(time.strptime(run_id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return None


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None
