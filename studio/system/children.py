"""Helper processes that run a module of this program: how they are started and ended.

Why in one place: each must find the same program from any folder, must not spin while it waits, must not
open a console window on Windows, and must be gone when its user is.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import studio
from studio.system.windows import Job

NO_WINDOW = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
"""The environment in which Python reads and writes UTF-8, whatever the code page of the system, and in which no
printed character is an error."""


def module_command(module: str) -> list[str]:
    """The command that runs a module in this Python, without the present folder on its path."""
    return [sys.executable, "-P", "-m", module]


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours, with this program on the path and unbuffered output in
    UTF-8."""
    root = str(Path(studio.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [root, *(os.path.abspath(p) for p in inherited if p)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONUNBUFFERED": "1",
        **UTF8,
        **more,
    }


def end_with_us(process: subprocess.Popen[Any]) -> None:
    """Windows: end the process when this one ends, however that happens."""
    _our_job().add(process)


@lru_cache(maxsize=1)
def _our_job() -> Job:
    return Job()


def is_closed_pipe(error: BaseException) -> bool:
    """Whether the other end of a pipe has been closed, which Windows reports as an invalid argument."""
    if isinstance(error, BrokenPipeError):
        return True
    invalid = isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    return sys.platform == "win32" and invalid


def start_child(
    command: Sequence[str],
    errors: IO[str],
    *,
    asked: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a child whose standard output is read in lines; ``errors`` takes its standard error,
    ``asked`` gives it a standard input, ``environment`` is added to ours."""
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env=child_environment(environment or {}),
        creationflags=NO_WINDOW,
    )
    end_with_us(process)
    return process


def end_child(process: subprocess.Popen[str], grace_s: float) -> None:
    """Terminate the child; kill it if it does not end in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
