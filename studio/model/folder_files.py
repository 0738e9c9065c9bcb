"""The files of a model folder that may be read: regular files inside the folder.

A received folder can hold links to any file of this computer, and named pipes that block whoever opens
them. The layout of the Hub's cache, where the files of a snapshot are links into the folder ``blobs``
of the same repository, is allowed.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from studio.shown_text import line

LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON file of a model that is read; real tokenizers have up to 35 MB."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a file of a model folder, with all links followed, belongs to the folder."""
    try:
        home, real = folder.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return False
    if real.is_relative_to(home):
        return True
    snapshots, repository = home.parent, home.parent.parent
    cached = snapshots.name == "snapshots" and repository.name.startswith("models--")
    return cached and real.is_relative_to(repository / "blobs")


def fault_of(folder: Path, path: Path) -> tuple[str, str]:
    """Why a file must not be read, as an error code and the end of a sentence about it; two empty
    strings if it may, or if it does not exist."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        missing = "is a link to a file that does not exist"
        return ("broken_link", missing) if path.is_symlink() else ("", "")
    except (OSError, ValueError) as error:
        return "unreadable_file", f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if not is_inside(folder, path):
        return "link_outside", "is a link that leads out of the model folder"
    kind = next((words for test, words in _KINDS if test(mode)), "")
    return ("not_a_file", f"is {kind}, not a file") if kind else ("", "")


def what_to_do(code: str, name: str) -> str:
    """What the user can do about a fault with this code."""
    if code == "link_outside":
        return f"Replace {name} with a copy of the file, if it belongs to the model."
    if code == "unreadable_file":
        return "Check its permissions."
    return f"Remove {name}, or download or copy the model again."


def is_readable(folder: Path, path: Path) -> bool:
    """Whether ``path`` is a regular file that belongs to the folder."""
    return not any(fault_of(folder, path)) and path.is_file()


def read_text(folder: Path, name: str, limit: int = LARGEST_JSON) -> str:
    """The text of a file of a model folder; raises ``OSError`` or ``ValueError``."""
    path = folder / name
    _, fault = fault_of(folder, path)
    if fault:
        raise OSError(f"{name} {fault}")
    if path.stat().st_size > limit:
        raise ValueError(f"it is larger than {limit // 2**20} MB")
    return path.read_text(encoding="utf-8")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a model folder; raises ``OSError`` or ``ValueError``."""
    try:
        data = json.loads(read_text(folder, name))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    return data


def json_or_empty(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a model folder; empty if it cannot be read."""
    try:
        return read_json(folder, name)
    except (OSError, ValueError):
        return {}


def shown(value: object, longest: int = 80) -> str:
    """A value of a received file as it may stand in a sentence: short, and without control characters."""
    return line(value if isinstance(value, str) else json.dumps(value), longest)
