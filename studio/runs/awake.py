"""Prevents automatic sleep while a run is going: a computer that sleeps trains nothing.

wakepy asks Windows (SetThreadExecutionState), macOS (caffeinate) or the Linux desktop (GNOME's session manager,
or org.freedesktop.PowerManagement as in KDE, on the session bus). The request ends with the process, also
with a killed one. The screen may turn off; a closed lid is not prevented.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping

from studio.events import Event, event

NOT_POSSIBLE = (
    "Automatic sleep could not be prevented on this computer: if it goes to sleep, the run pauses until it "
    "is woken."
)
REMEDY = "Turn off automatic sleep in the settings of the system before a long run."
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def kept_awake(wanted: bool, emit: Callable[[Event], object]) -> Iterator[None]:
    """No automatic sleep inside. If that cannot be had, the log says why, and where the computer may
    sleep by itself ``emit`` is called with a notice."""
    with contextlib.ExitStack() as stack:
        if wanted:
            _enter(stack, emit)
        yield


def _enter(stack: contextlib.ExitStack, emit: Callable[[Event], object]) -> None:
    try:
        from wakepy import keep

        mode = stack.enter_context(keep.running(on_fail="pass"))
        if mode.active and mode.method is not None:
            logger.info("automatic sleep is prevented (%s)", mode.method.name)
            return
    except Exception as error:  # a run never fails because of this
        logger.info("automatic sleep is not prevented", exc_info=error)
    if may_sleep():  # wakepy has logged which ways it tried
        emit(event("Notice", level="warning", sentence=NOT_POSSIBLE, hint=REMEDY))


def may_sleep(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether this computer may go to sleep by itself: servers without a desktop do not."""
    if platform in ("win32", "darwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
