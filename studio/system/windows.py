"""What a process asks of Windows: to end together with its helpers, the speed of all cores, time to save.

Every function does nothing on other systems, and nothing if Windows refuses. Only the documented functions of
kernel32 are used, through ctypes. None of this has run on Windows yet: the tests replace kernel32.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMITS = 9
_POWER_THROTTLING, _EXECUTION_SPEED = 4, 1
_CLOSING = (2, 5, 6)
"""The events of a console that is closed, of a user who logs off, and of a system that shuts down."""
CLOSING_S = 4.5
"""How long an event is held: Windows ends the process when it returns, and after 5 s in any case."""

_handlers: list[Any] = []
"""Callbacks, which must live as long as the process."""


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION with its basic limits and counters."""

    _fields_ = (
        ("times", ctypes.c_int64 * 2),
        ("flags", ctypes.c_uint32),
        ("sizes", ctypes.c_size_t * 2),
        ("processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("classes", ctypes.c_uint32 * 2),
        ("counters", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    )


class _Throttling(ctypes.Structure):
    """PROCESS_POWER_THROTTLING_STATE."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("control", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
    )


def _kernel() -> Any:
    """kernel32, or ``None`` on other systems. Handles are pointers: without their types they would be cut to 32
    bits."""
    if sys.platform != "win32":
        return None
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    handle, number = ctypes.c_void_p, ctypes.c_uint32
    kernel.CreateJobObjectW.restype = kernel.GetCurrentProcess.restype = handle
    kernel.CreateJobObjectW.argtypes = (handle, ctypes.c_wchar_p)
    kernel.SetInformationJobObject.argtypes = (handle, ctypes.c_int, handle, number)
    kernel.AssignProcessToJobObject.argtypes = (handle, handle)
    kernel.SetProcessInformation.argtypes = (handle, ctypes.c_int, handle, number)
    return kernel


@contextlib.contextmanager
def _optional() -> Iterator[None]:
    """An older system lacks some of the functions."""
    with contextlib.suppress(OSError, AttributeError, ctypes.ArgumentError):
        yield


class Job:
    """Processes that end with this one, however it ends: the system closes its handle of the job then, and that ends
    the others. Their own children belong to the job too."""

    def __init__(self) -> None:
        self._kernel = _kernel()
        self._handle = None
        if self._kernel is not None:
            with _optional():
                self._handle = self._made()

    def _made(self) -> Any:
        handle = self._kernel.CreateJobObjectW(None, None)
        limits = _Limits(flags=_KILL_ON_JOB_CLOSE)
        size = ctypes.sizeof(limits)
        set_limits = self._kernel.SetInformationJobObject
        done = handle and set_limits(handle, _EXTENDED_LIMITS, ctypes.byref(limits), size)
        return handle if done else None

    def add(self, process: Any = None) -> bool:
        """Add a ``Popen``, or this process: then all that it starts from now on ends with it. Returns whether it was
        added."""
        if self._handle is None:
            return False
        with _optional():
            handle = (
                int(process._handle) if process is not None else self._kernel.GetCurrentProcess()
            )
            return bool(self._kernel.AssignProcessToJobObject(self._handle, handle))
        return False


def use_all_cores() -> bool:
    """Opt out of power throttling. A process without a window may otherwise run on the efficient cores of a hybrid
    processor only, and one of a lower priority class does. Returns whether Windows agreed."""
    kernel = _kernel()
    if kernel is None:
        return False
    with _optional():
        state = _Throttling(version=1, control=_EXECUTION_SPEED, state=0)
        size = ctypes.sizeof(state)
        process = kernel.GetCurrentProcess()
        done = kernel.SetProcessInformation(process, _POWER_THROTTLING, ctypes.byref(state), size)
        return bool(done)
    return False


def on_console_close(stop: Callable[[], None]) -> bool:
    """Call ``stop`` when the console is closed, the user logs off or the system shuts down, and give the process a
    few seconds to end by itself. Python's signals come too late: Windows ends the process when the handler in C
    returns. Returns whether the handler is in place."""
    kernel = _kernel()
    if kernel is None:
        return False

    def handle(event: int) -> bool:
        if event not in _CLOSING:
            return False
        stop()
        time.sleep(CLOSING_S)
        return True

    kind = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)
    with _optional():
        handler = kind(ctypes.c_int, ctypes.c_uint32)(handle)
        _handlers.append(handler)
        return bool(kernel.SetConsoleCtrlHandler(handler, 1))
    return False
