"""Turns an exception into the fields of a ``StepFailed`` event.

Expected errors keep their own sentence; a full disk and exhausted memory get one; anything else is
a bug and carries its trace. It must not import torch: its errors are known by name.
"""

from __future__ import annotations

import errno
import shutil
import traceback
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.system.disk import is_full

GIB = 2**30
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def as_studio_error(error: BaseException, title: str, folder: Path) -> StudioError | None:
    """The error as one the user can act on, or ``None`` for a bug. ``folder`` is where the step
    writes when the error names no file."""
    if isinstance(error, StudioError):
        return error
    found = _of_the_system(error, folder)
    if found is not None:
        found.put_title(title)
    return found


def _of_the_system(error: BaseException, folder: Path) -> StudioError | None:
    """An error of the operating system: disk space, a file, or memory."""
    if is_full(error):
        return _disk_full(error, folder)
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename:
        return _refused(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _out_of_memory(error)
    hidden = error.__cause__ or error.__context__
    if hidden is not None and not isinstance(hidden, StudioError) and is_full(hidden):
        return _disk_full(hidden, folder)
    return None


def failure(error: BaseException, title: str, folder: Path) -> dict[str, Any]:
    """The fields of ``StepFailed`` beyond the node. This is where an error gets the title of its
    node; steps raise the bare sentence."""
    known = as_studio_error(error, title, folder)
    if known is None:
        return {
            "title": "Internal error in LoRA Studio",
            "sentence": f"{title} failed unexpectedly: {_one_line(error)}",
            "hint": "This is a bug in LoRA Studio or an extension. Details are in host.log.",
            "code": "bug",
            "trace": "".join(traceback.format_exception(error)),
        }
    known.put_title(title)
    fields = {
        "title": known.title,
        "sentence": known.sentence,
        "hint": known.hint,
        "code": known.code,
        "field": known.field,
        "file": known.file,
        "line": known.line,
    }
    return {k: v for k, v in fields.items() if v not in (None, "")}


def _disk_full(error: BaseException, folder: Path) -> StudioError:
    name = getattr(error, "filename", None)
    place = _existing(Path(str(name)).parent if name else folder)
    try:
        free = f"{shutil.disk_usage(place).free / GIB:.2f} GiB free"
    except OSError:
        free = "free space unknown"
    return StudioError(
        f"the disk is full. It was writing to {place} ({free}).",
        title="The disk is full",
        hint="Free some space or choose a folder on another disk, then resume the run.",
        code="disk_full",
        file=str(place),
    )


def _refused(error: OSError) -> StudioError:
    return StudioError(
        f"cannot use {error.filename}: {error.strerror}.",
        title="A file or folder cannot be used",
        hint="Change its permissions or choose another location, then resume the run.",
        code="no_permission",
        file=str(error.filename),
    )


def _out_of_memory(error: BaseException) -> StudioError:
    kind = "GPU memory" if type(error).__name__ == "OutOfMemoryError" else "memory"
    return StudioError(
        f"not enough {kind}.",
        title="Not enough memory",
        hint=(
            "Use a smaller batch size or maximum length, gradient checkpointing, or a smaller "
            "model."
        ),
        code="out_of_memory",
    )


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
