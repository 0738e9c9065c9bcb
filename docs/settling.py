"""How the scripts that make pictures wait for the window."""

from __future__ import annotations

from collections.abc import Callable

_STEP_MS = 50


def settle(ms: int) -> None:
    """Let timers and other processes come to their ends."""
    from PySide6.QtTest import QTest

    QTest.qWait(ms)


def until(holds: Callable[[], object], within_ms: int) -> None:
    """Wait for something that takes its time. Raises ``TimeoutError``."""
    waited = 0
    while not holds():
        if waited >= within_ms:
            raise TimeoutError("the window did not get into the wanted state")
        settle(_STEP_MS)
        waited += _STEP_MS
