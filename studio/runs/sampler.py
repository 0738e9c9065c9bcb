"""A ``Memory`` event once a second, in every phase, from a thread beside the steps.

It must not import torch itself, and must not end a run: a failed reading is skipped.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from studio.events import Event, event

EVERY_S = 1.0


class MemorySampler(threading.Thread):
    """Emits readings for the current node, which ``node`` returns."""

    def __init__(self, emit: Callable[[Event], None], node: Callable[[], str | None]) -> None:
        super().__init__(name="run-memory", daemon=True)
        self._emit = emit
        self._node = node
        self._done = threading.Event()

    def run(self) -> None:
        """Sample until ``end`` is called."""
        while not self._done.wait(EVERY_S):
            node = self._node()
            reading = read_now()
            if node is None or not reading or self._done.is_set():
                continue
            try:
                self._emit(event("Memory", node, **reading))
            except OSError:  # the step's own events fail on the same disk and end the run
                return

    def end(self) -> None:
        """Stop sampling; nothing is emitted after this returns."""
        self._done.set()
        self.join()


def read_now() -> dict[str, Any]:
    """Memory in use (GiB). While torch is being imported there is no reading: it would wait for the
    import."""
    torch = sys.modules.get("torch")
    if torch is not None and getattr(torch.__spec__, "_initializing", False):
        return {}
    try:
        from studio.system.memory import read_memory

        return read_memory()
    except Exception:  # a driver may fail in any way; a gap in a plot must not end the run
        return {}
