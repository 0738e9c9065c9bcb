"""Turns an exception into the fields of a ``StepFailed`` event.

Expected errors keep their own sentence; errors of the operating system get one: a disk that is
full, fails or cannot be written, names and limits, exhausted memory. Anything else is a bug and
carries its trace. It must not import torch: its errors are known by name.
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from typing import Any

from bootstrap.platforms import OLD_RUNTIME, RUNTIME_HINT, is_old_runtime
from studio.errors import StudioError
from studio.system.disk import FREE_SPACE, free_bytes, is_full, is_severe, number_of, what_to_do
from studio.system.memory import causes, is_on_gpu, out_of_memory_in

GIB = 2**30
_LONGEST = 2000
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def as_studio_error(
    error: BaseException, title: str = "", folder: Path | None = None
) -> StudioError | None:
    """The error as one the user can act on, or ``None`` for a bug. ``folder`` is where the step
    writes when the error names no file; ``title`` is that of its node. Both are missing outside of
    a step."""
    if isinstance(error, StudioError):
        return error
    found = _system_error(error, folder)
    if found is not None and title:
        found.put_title(title)
    elif found is not None:
        found.sentence = found.sentence[:1].upper() + found.sentence[1:]
    return found


def _system_error(error: BaseException, folder: Path | None) -> StudioError | None:
    """An error of the operating system (disk space, a file, memory) in words, or ``None`` for any
    other. ``folder`` is named when the error names no file."""
    memory = out_of_memory_in(error)
    if memory is not None:
        return _out_of_memory(memory)
    for cause in causes(error):
        if is_full(cause):
            return _disk_full(cause, folder)
        if is_severe(cause):
            return _unusable(cause, folder)
        if isinstance(cause, ImportError | OSError) and is_old_runtime(str(cause)[:_LONGEST]):
            return _old_runtime(cause)
        if "surrogates not allowed" in str(cause)[:_LONGEST]:
            return _not_utf8(cause)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError) and error.errno:
        return _unusable(error, folder)
    return None


def _old_runtime(error: BaseException) -> StudioError:
    return StudioError(
        f"a library does not load ({_one_line(error)}): {OLD_RUNTIME}",
        title="A library does not load",
        hint=RUNTIME_HINT,
        code="old_runtime",
    )


def failure(error: BaseException, title: str, folder: Path) -> dict[str, Any]:
    """The fields of ``StepFailed`` beyond the node. This is where an error gets the title of its
    node; steps raise the bare sentence."""
    known = as_studio_error(error, title, folder)
    if known is None:
        return {
            "title": "Internal error in LoRA Studio",
            "sentence": _ended(f"{title} failed unexpectedly: {_one_line(error)}"),
            "hint": "This is a bug in LoRA Studio or an extension. Details are in host.log.",
            "code": "bug",
            "trace": "".join(traceback.format_exception(error)),
        }
    known.put_title(title)
    if known is not error and known.code != "out_of_memory":
        known.hint += " Then resume the run."
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


def _disk_full(error: BaseException, folder: Path | None) -> StudioError:
    name = _file_of(error)
    place = _existing(Path(name).parent) if name else folder and _existing(folder)
    room = free_bytes(place) if place else None
    free = "free space unknown" if room is None else f"{room / GIB:.2f} GiB free"
    return StudioError(
        f"the disk is full.{f' It was writing to {place} ({free}).' if place else ''}",
        title="The disk is full",
        hint=FREE_SPACE,
        code="disk_full",
        file=str(place) if place else None,
    )


def _unusable(error: BaseException, folder: Path | None) -> StudioError:
    name = _file_of(error)
    number = number_of(error) or 0
    reason = getattr(error, "strerror", None) or os.strerror(number)
    place = f" in {folder}" if folder else ""
    return StudioError(
        f"{f'cannot use {name}' if name else f'cannot read or write a file{place}'}: {reason}.",
        title="A file or folder cannot be used",
        hint=what_to_do(error) or "Check the file and the disk, then try again.",
        code="no_permission" if number in _REFUSED else "file_error",
        file=name or (str(folder) if folder else None),
    )


def _file_of(error: BaseException) -> str:
    """The file that an error of the system names; empty if it names none."""
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""


def _not_utf8(error: BaseException) -> StudioError:
    """A name in another encoding than UTF-8, which a library refused."""
    text = error.object if isinstance(error, UnicodeEncodeError) else ""
    return StudioError(
        f"the name of a file or folder is not valid UTF-8{f': {text}' if text else ''}.",
        title="A file or folder cannot be used",
        hint="Rename it, or choose another location.",
        code="not_utf8",
    )


def _out_of_memory(error: BaseException) -> StudioError:
    return StudioError(
        f"not enough {'GPU memory' if is_on_gpu(error) else 'memory'}.",
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


def _ended(text: str) -> str:
    """A text of a library as a sentence, before the hint that follows it."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
