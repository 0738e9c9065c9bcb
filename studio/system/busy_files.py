"""Renaming, replacing and deleting files that another program may hold for a moment.

On Windows a virus scanner, a search index or the program of a cloud folder opens new files, and until it closes
them the system refuses to rename, replace or delete them, and to rename a folder above them. So these calls are
repeated for some seconds. Other errors, and all errors of other systems, are raised at once.
"""

from __future__ import annotations

import gc
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from studio.system.disk import windows_code

T = TypeVar("T")

PATIENCE_S = 5.0
TIDY_PATIENCE_S = 1.0
"""The patience for what may remain: a step that is being stopped must not wait for it."""

_TOKEN = "[0-9a-f]" * 8
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_BUSY = {5, 32, 33, 145, 303, 1224}
"""Access denied (also while a deleted file is still open), sharing and lock violation, folder not empty because a
deleted file is still open, delete pending, mapped file."""


def is_busy(error: BaseException) -> bool:
    """Whether Windows refused because a file is in use; libraries written in Rust say so only in their text."""
    return windows_code(error) in _BUSY


def patiently(call: Callable[[], T], patience_s: float | None = None) -> T:
    """The result of ``call``, which is repeated while a file is in use."""
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    pause = _PAUSE_S
    while True:
        try:
            return call()
        except Exception as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            if pause == _PAUSE_S and "torch" in sys.modules:
                gc.collect()  # may close a file of our own; never in the window, whose objects belong to threads
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def rename(source: Path, target: Path) -> None:
    """``os.rename``, patiently."""
    patiently(lambda: os.rename(source, target))


def replace(source: Path, target: Path) -> None:
    """``os.replace``, patiently."""
    patiently(lambda: os.replace(source, target))


def remove(path: Path) -> None:
    """Delete a file, patiently; a missing one is no error."""
    patiently(lambda: path.unlink(missing_ok=True))


def remove_folder(path: Path) -> None:
    """Delete a folder with all that it contains, patiently; raises ``OSError``."""
    patiently(lambda: shutil.rmtree(path))


def tidy(path: Path) -> None:
    """Delete a folder if possible; what is still in use after a moment remains."""
    with suppress(OSError):
        patiently(lambda: shutil.rmtree(path), TIDY_PATIENCE_S)
        return
    shutil.rmtree(path, ignore_errors=True)


def free_name(path: Path) -> Path:
    """The path, or a new one beside it if something is left there that could not be removed."""
    return path.with_name(f"{path.name}-{secrets.token_hex(4)}") if os.path.lexists(path) else path


def new_part(target: Path) -> Path:
    """A hidden name beside ``target`` for a file that is renamed to it when complete. What killed processes have left
    under such names is removed."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.{_TOKEN}.part"):
        with suppress(OSError):
            remove(left)
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder to a free name. If a file in it remains in use, it is copied, so that the work in it is kept,
    and the source is deleted as far as possible."""
    try:
        rename(source, target)
    except OSError as error:
        if not is_busy(error) or target.exists():
            raise
        try:
            shutil.copytree(source, target)
        except BaseException:
            tidy(target)
            raise
        tidy(source)
