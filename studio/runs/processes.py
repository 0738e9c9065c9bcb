"""Terminating processes: the host's helpers, and those that a killed host left behind.

A host leads a session of its own, so its helpers can be found by session even after it died. Only
processes that demonstrably belong to a run are terminated: process IDs are reused after a restart
or in another container, so the processes of a dead host must also carry its run's mark.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from studio.system import windows

MARK = "LORA_STUDIO_RUN"
"""Environment variable of a host and its helpers; see ``mark``."""

_PR_SET_CHILD_SUBREAPER = 36
_SAME_S = 1.0
LOW_PRIORITY = 10
"""The nice value of a run that lets other programs go first: a tenth of their share of a busy core."""


def mark(run: Path) -> str:
    """The value of ``MARK`` for the processes of the run in this folder."""
    return str(run.resolve())


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a process to end; SIGBREAK is Ctrl+Break on Windows."""
    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def adopt_orphans() -> None:
    """Become the parent of helpers whose own parent dies (Linux), so that they can be found."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_children(patience_s: float = 2.0) -> None:
    """Kill all descendants of this process."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        children = psutil.Process().children(recursive=True)
        alive = [c for c in children if _kill(c)]
        if not alive:
            return
        psutil.wait_procs(alive, timeout=0.2)


def kill_host(pid: int, created: float, run_mark: str) -> None:
    """End a host and everything below it or in its session, or what a dead one left of that and
    carries the run's mark. Does nothing when the process id now belongs to another process."""
    try:
        host = psutil.Process(pid)
        known = abs(host.create_time() - created) < _SAME_S
    except psutil.Error:
        _kill_all(p for p in _session(pid) if _mark_of(p) == run_mark)
        return
    if not known:
        return
    below = _children(host)
    for process in (host, *below):
        _kill(process)
    _kill_all(_session(pid))
    psutil.wait_procs([host, *below], timeout=1.0)


def _session(leader: int) -> list[psutil.Process]:
    """The processes of a session, which may have outlived its leader; never this one's own."""
    if sys.platform == "win32" or leader <= 1 or leader == os.getsid(0):
        return []
    return [p for p in psutil.process_iter() if _session_of(p.pid) == leader]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        environment: dict[str, str] = process.environ()
    except psutil.Error:
        return None
    return environment.get(MARK)


def _kill_all(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        _kill(process)


def _session_of(pid: int) -> int:
    if sys.platform == "win32":
        return -1
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> bool:
    """Kill one process; returns whether it was alive (a zombie is not)."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            _reap(process.pid)
            return False
        process.kill()
    except psutil.Error:
        return False
    return True


def _reap(pid: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)


def is_alive(pid: int, created: float) -> bool:
    """Whether exactly this process is still running."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < _SAME_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def set_priority(low: bool) -> None:
    """Keep the usual priority, or lower that of this process and of those that it will start, so that the desktop
    stays responsive while all cores compute. On Windows a lower priority class alone would put the process on the
    efficient cores of a hybrid processor, so that it also asks for all cores."""
    if low:
        _be_kind()
    windows.use_all_cores()


def _be_kind() -> None:
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(LOW_PRIORITY)
    if sys.platform == "linux":
        _be_kind_as_a_session()


def _be_kind_as_a_session() -> None:
    """Linux may share the cores among sessions first (autogroup), where the priority of a process counts only within
    its own session. This one leads its session, which gets the same priority."""
    with contextlib.suppress(OSError):
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(LOW_PRIORITY), encoding="ascii")


def lead_session() -> None:
    """Start a session of its own, if this process does not lead one yet; ignore hang-ups."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
