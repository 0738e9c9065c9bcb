"""The rules of Windows for files, on Linux: what is open or mapped is neither renamed, replaced nor deleted.

Within ``windows_files`` the functions of Python and safetensors that rename, replace, delete or overwrite refuse
when ``/proc`` shows that the target is in use: open or mapped in this process or in one that it started, under
this name or that of another hard link; for a folder, anything below it, and a process whose current folder it is.
Read-only files and existing targets are refused as on Windows. Python processes that start within the block follow
the same rules. ``refused`` lists every refusal, also of a call whose error was ignored.

It is stricter than Windows, where some programs open files so that others may delete them.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

_DENIED, _IN_USE, _EXISTS, _MAPPED = 5, 32, 183, 1224
_WORDS = {
    _DENIED: "Access is denied",
    _IN_USE: "The process cannot access the file because it is being used by another process",
    _EXISTS: "Cannot create a file when that file already exists",
    _MAPPED: "Invalid argument",
}
_ENVIRONMENT = "LORA_STUDIO_TEST_WINDOWS_FILES"
_HERE = Path(__file__).resolve().parents[1]


class WindowsFiles:
    """The rules, for files below ``roots``; ``log`` is written by all processes that follow them, ``leader`` is
    the oldest of these."""

    def __init__(self, roots: list[Path], log: Path, leader: int) -> None:
        self.roots = [os.path.realpath(r) for r in roots]
        self.log, self.leader = log, leader
        log.touch()

    @property
    def refused(self) -> list[str]:
        """Each refusal: what was called, the target, and the file in use."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def holder(self, path: Any) -> str:
        """What keeps a file, or something in a folder, in use; empty if nothing does."""
        target = self._within(path)
        if not target or not os.path.lexists(target):
            return ""
        found = os.lstat(target)
        same = (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
        below = target + os.sep
        links = same is not None and found.st_nlink > 1
        for pid in _family(self.leader):
            for name in _used_by(pid, self.roots):
                if name == target or name.startswith(below) or (links and _identity(name) == same):
                    return f"{name} in process {pid}"
        return ""

    def refuse(self, what: str, path: Any, number: int = 0) -> None:
        """Raise the error of Windows if ``path`` is in use, or the given one in any case."""
        holder = "" if number else self.holder(path)
        if holder or number:
            number = number or _IN_USE
            self.note(what, path, holder or _WORDS[number])
            raise windows_error(number, os.fspath(path))

    def refuse_writing(self, what: str, path: Any) -> None:
        """Raise if a file may not be replaced or deleted."""
        target = self._within(path)
        if target and os.path.isfile(target) and not os.stat(target).st_mode & stat.S_IWUSR:
            self.refuse(what, path, _DENIED)
        self.refuse(what, path)

    def note(self, what: str, path: Any, why: str) -> None:
        """Add a refusal to the log."""
        with _real_open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{what} {os.fspath(path)}: {why}\n")

    def _within(self, path: Any) -> str:
        if isinstance(path, int):
            return ""
        place = os.fspath(path)
        if not isinstance(place, str):
            return ""
        real = os.path.join(
            os.path.realpath(os.path.dirname(place) or "."), os.path.basename(place)
        )
        return real if any(real == r or real.startswith(r + os.sep) for r in self.roots) else ""

    @contextmanager
    def applied(self) -> Iterator[WindowsFiles]:
        """Within the block the functions follow the rules."""
        with ExitStack() as stack:

            def put(module: Any, name: str, make: Callable[..., Any]) -> None:
                real = getattr(module, name)
                stack.enter_context(
                    patch.object(module, name, functools.wraps(real)(functools.partial(make, real)))
                )

            for name in ("remove", "unlink", "rmdir"):
                put(os, name, functools.partial(self._removing, name))
            for name in ("rename", "replace"):
                put(os, name, functools.partial(self._moving, name))
            for module in (builtins, io):
                put(module, "open", self._opening)
            stack.enter_context(patch.object(shutil, "_use_fd_functions", False))
            if hasattr(shutil, "_rmtree_impl"):  # Python 3.13
                stack.enter_context(patch.object(shutil, "_rmtree_impl", shutil._rmtree_unsafe))
            with suppress(ImportError):
                import safetensors

                put(safetensors, "serialize_file", self._serializing)
            if (loaded := sys.modules.get("safetensors.torch")) is not None:
                put(loaded, "serialize_file", self._serializing)
            yield self

    def _removing(self, name: str, real: Any, path: Any, *args: Any, **more: Any) -> Any:
        if not more.get("dir_fd"):
            self.refuse_writing(name, path)
        return real(path, *args, **more)

    def _moving(self, name: str, real: Any, source: Any, target: Any, **more: Any) -> Any:
        self.refuse(name, source)
        there = self._within(target)
        if there and os.path.lexists(there) and not _is_same(source, target):
            if name == "rename":
                self.refuse(name, target, _EXISTS)
            if os.path.isdir(there):
                self.refuse(name, target, _DENIED)
            self.refuse_writing(name, target)
        return real(source, target, **more)

    def _opening(self, real: Any, file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if "w" in str(mode) and (holder := self.holder(file)):
            self.note("open", file, holder)
            raise windows_error(_MAPPED, os.fspath(file))
        return real(file, mode, *args, **more)

    def _serializing(self, real: Any, tensors: Any, filename: Any, *args: Any, **more: Any) -> Any:
        from safetensors import SafetensorError

        if holder := self.holder(filename):
            self.note("save_file", filename, holder)
            words = f"{_WORDS[_DENIED]}. (os error {_DENIED})"
            raise SafetensorError(f"Error while serializing: I/O error: {words}")
        return real(tensors, filename, *args, **more)


_real_open = builtins.open


def windows_error(number: int, path: str = "") -> OSError:
    """The error that Python raises on Windows for this code of the system."""
    kinds = {
        _EXISTS: (FileExistsError, 17),
        _MAPPED: (OSError, 22),
        112: (OSError, 28),
        39: (OSError, 22),
    }
    kind, code = kinds.get(number, (PermissionError, 13))
    error = kind(code, _WORDS.get(number, "There is not enough space on the disk"), path)
    error.winerror = number  # type: ignore[attr-defined]
    return error


def _is_same(source: Any, target: Any) -> bool:
    return os.path.realpath(source) == os.path.realpath(target)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _family(leader: int) -> list[int]:
    """A process and all that it started."""
    found = [leader]
    for pid in found:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
            for task in tasks:
                with _real_open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
        except OSError:
            continue
    return found


def _used_by(pid: int, roots: list[str]) -> Iterator[str]:
    """The paths that a process has open or mapped, and its current folder, as far as they lie below the roots."""
    links = [f"/proc/{pid}/cwd"]
    try:
        links += [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
        with _real_open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            maps = file.read()
    except OSError:
        return
    for root in roots:
        for part in maps.split(root)[1:]:
            yield root + part.partition("\n")[0]
    for link in links:
        try:
            place = os.readlink(link)
        except OSError:
            continue
        if place.startswith(tuple(roots)):
            yield place


class _WindowsOs:
    """``os`` as ``tempfile`` sees it on Windows, where ``os.access`` allows every folder."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def access(self, *_: object) -> bool:
        return True


@contextmanager
def refused_folder(folder: Path) -> Iterator[list[str]]:
    """No file can be created in a folder, as in one that only administrators of Windows may change. Yields the
    names that were tried; ``tempfile`` before Python 3.13 never stops."""
    tried: list[str] = []
    create = os.open

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if not flags & os.O_CREAT or Path(path).parent != folder:
            return create(path, flags, *more, **named)
        tried.append(Path(path).name)
        assert len(tried) < 100, "the folder is tried again and again"
        raise windows_error(_DENIED, str(path))

    with patch.object(os, "open", refusing), patch.object(tempfile, "_os", _WindowsOs()):
        yield tried


@contextmanager
def windows_files(*roots: Path, log: Path | None = None) -> Iterator[WindowsFiles]:
    """The rules for files below ``roots`` and the session's own folder, in this process and those that it starts."""
    if sys.platform != "linux":
        pytest.skip("the simulation reads /proc")
    home = Path(os.environ["LORA_STUDIO_HOME"])
    log = log or roots[0].parent / f"{roots[0].name}-refused.log"
    rules = WindowsFiles([*roots, home], log, os.getpid())
    code = roots[0].parent / f"{roots[0].name}-sitecustomize"
    code.mkdir(exist_ok=True)
    (code / "sitecustomize.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(_HERE)!r})\n"
        "from tests import windows_files\n"
        "windows_files.follow()\n",
        encoding="utf-8",
    )
    told = "\n".join([str(log), str(rules.leader), *rules.roots])
    paths = os.pathsep.join(p for p in (str(code), os.environ.get("PYTHONPATH")) if p)
    with (
        patch.dict(os.environ, {_ENVIRONMENT: told, "PYTHONPATH": paths}),
        rules.applied(),
    ):
        yield rules


def follow() -> None:
    """Follow the rules of the process that started this one, until the end."""
    told = os.environ.get(_ENVIRONMENT)
    if told:
        log, leader, *roots = told.split("\n")
        rules = WindowsFiles([Path(r) for r in roots], Path(log), int(leader))
        stack = ExitStack()
        stack.enter_context(rules.applied())
        atexit.register(stack.pop_all().close)
