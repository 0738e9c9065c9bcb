"""Which live processes use an environment, so that a set-up does not change packages under them.

Why: a run lives for hours and imports modules late; replaced files would end it, and on Windows loaded libraries
cannot be replaced at all. Each user locks a file of its own in the environment; the system releases the lock when
the process ends, however it ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = "lora-studio-in-use"
_OFFSET = 1 << 30  # beyond any content: Windows locks are mandatory and would block readers
_held: list[int] = []


def hold(what: str, venv: Path | None = None) -> None:
    """Mark the environment as used by this process until it ends; `what` names it for the user.

    Does nothing in an environment that the bootstrap has not made, or that cannot be written.
    """
    from bootstrap import requirements

    venv = venv or Path(sys.prefix)
    if not (venv / requirements.STAMP).is_file():
        return
    try:
        (venv / FOLDER).mkdir(exist_ok=True)
        path = venv / FOLDER / f"{os.getpid()}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return
    if lock(handle):
        os.ftruncate(handle, 0)
        os.write(handle, what.encode("utf-8", "replace"))
        _held.append(handle)
    else:
        os.close(handle)


def users(venv: Path) -> list[str]:
    """What uses the environment now, this process excluded; forgets those that have ended."""
    found = []
    for path in sorted((venv / FOLDER).glob("*.lock")):
        if path.stem == str(os.getpid()):
            continue
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            ended = lock(handle)
            what = os.read(handle, 1000).decode("utf-8", "replace") if not ended else ""
        finally:
            os.close(handle)
        if ended:
            path.unlink(missing_ok=True)
        else:
            found.append(f"{what or 'LoRA Studio'} (process {path.stem})")
    return found


def lock(handle: int) -> bool:
    """Lock a file for this process without waiting; a record lock, which forked children do not inherit."""
    os.lseek(handle, _OFFSET, os.SEEK_SET)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        return False
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return True
