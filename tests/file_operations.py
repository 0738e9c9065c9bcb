"""Looks at what a function does to files, one operation at a time.

``watched`` calls a function before each operation of this thread that changes files, so a test sees every state that
is on the disk in between: what a kill at that moment would leave.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALLS = frozenset(
    {"mkdir", "rmdir", "rename", "replace", "unlink", "remove", "link", "symlink", "fsync"}
)
"""Names of the functions that change folders and names; ``open`` and the writes are in ``WRITES``."""
WRITES = frozenset({"write", "tofile", "truncate", "sendfile", "serialize_file", "close", "flush"})


@contextmanager
def watched(before: Callable[[str], None]) -> Iterator[None]:
    """Call ``before`` with the name of each operation. It may end the process."""
    busy = False

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal busy
        del frame
        if event != "c_call" or busy or isinstance(getattr(arg, "__self__", None), str):
            return
        name = getattr(arg, "__name__", "")
        if name in CALLS or name in WRITES:
            busy = True
            try:
                before(name)
            finally:
                busy = False

    earlier = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(earlier)


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; a file with several names counts once."""
    found = {}
    for path in folder.rglob("*"):
        try:
            state = path.lstat()
        except FileNotFoundError:  # a child process has just removed it
            continue
        if path.is_file():
            found[state.st_dev, state.st_ino] = state.st_size
    return sum(found.values())
