"""The state of a run from its folder, as a window that is opened now would show it."""

from __future__ import annotations

import time
from pathlib import Path

from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.state import RunState


def read_state(folder: RunFolder) -> RunState:
    """The state of a run as it is now; a host that died shows as ``interrupted``."""
    state = RunState()
    running = (
        folder.is_running()
    )  # checked first, so that the last events of a host that ends now are read
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
