"""JSON files that the program writes and reads back, and their own hash.

A hash inside the file shows damage that is still valid JSON: a flipped bit in a number or in a name. Files
of earlier versions have none. Reading raises only ``OSError`` and ``ValueError``, whatever the file contains,
and never waits for a named pipe or a device.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from studio.system.busy_files import TIDY_PATIENCE_S, patiently

HASH = "sha256"


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. Other kinds of file raise ``OSError``, a file of more than ``most`` bytes
    ``ValueError``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise ValueError(f"it has {size:,} bytes")
        return file.read()


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened for reading; raises ``OSError`` for other kinds of file."""
    file = patiently(
        lambda: open(path, "rb", opener=_without_waiting),  # noqa: SIM115
        TIDY_PATIENCE_S,
    )
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise _not_regular(path)


def open_for_appending(path: Path) -> int:
    """A descriptor that reads a regular file and appends to it; the file is created if it does not exist. Raises
    ``OSError`` for other kinds of file, and for a link: a received folder must not change files outside of it."""
    if path.is_symlink():
        raise _not_regular(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    handle = _without_waiting(str(path), flags)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise _not_regular(path)


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EEXIST, "it is not a regular file", str(path))


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; raises ``ValueError``, also for a key that occurs twice in an object and for
    too deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def with_hash(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the hash of its content."""
    return {**data, HASH: _hash(data)}


def without_hash(data: Any) -> tuple[dict[str, Any], bool]:
    """The data without its hash, and whether it had one; raises ``ValueError`` when the hash is wrong."""
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    rest = {k: v for k, v in data.items() if k != HASH}
    if HASH in data and data[HASH] != _hash(rest):
        raise ValueError("its content has changed since it was written")
    return rest, HASH in data


def _hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
