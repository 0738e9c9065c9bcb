"""Helper processes that run a module of this program: how they are started and ended.

Why in one place: each must find the same program from any folder, must not spin while it waits, must not
open a console window on Windows, and must be gone when its user is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import studio

NO_WINDOW = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))


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
        "PYTHONIOENCODING": "utf-8",
        **more,
    }


def start_child(
    command: Sequence[str],
    errors: IO[str],
    *,
    asked: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a child whose standard output is read in lines; ``errors`` takes its standard error,
    ``asked`` gives it a standard input, ``environment`` is added to ours."""
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env=child_environment(environment or {}),
        creationflags=NO_WINDOW,
    )


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
