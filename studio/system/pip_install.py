"""Installs an optional package into the Python that runs the program, with pip in a child process.

It is downloaded into a folder of its own first, which can be stopped, and then installed from there in one go. pip uses
the user's index and proxy, and the versions of ``constraints.txt`` where it exists, so that nothing that is installed
changes. At the end the package is imported in a fresh process, and removed again if that fails: builds for other
processors end with an illegal instruction.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import bootstrap
from bootstrap import install as set_up
from bootstrap import platforms, requirements
from studio.errors import Stopped, StudioError
from studio.system.children import end_child, start_child
from studio.system.optional_packages import OptionalPackage

Tell = Callable[[str, float | None], object]
"""Gets what is being done, and the share of the download that is there, as far as it is known."""

POLL_S, GRACE_S = 0.2, 3.0
_RETRIES = "2"
"""pip tells that an index cannot be reached only before it tries again."""
_TRY = "import {module}; from importlib.metadata import version; print(version({name!r}))"
_OF_THE_SYSTEM = (
    "The Python of this program belongs to the operating system, which allows no other packages in it. Install the "
    "program into a virtual environment, and start it from there."
)
_ENVIRONMENT = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
_SIZE = re.compile(r"Downloading .*\(([\d.]+) (kB|MB|GB)\)")
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
_NO_BUILD = ("No matching distribution found", "Could not find a version that satisfies")


def python() -> str:
    """The Python into which packages are installed: the one that runs the program."""
    return sys.executable


def environment() -> Path:
    """Its environment."""
    return Path(sys.prefix)


def announced_bytes(line: str) -> float | None:
    """The size of a download, if this line of pip's output announces one."""
    found = _SIZE.search(line)
    return float(found[1]) * _UNITS[found[2]] if found else None


def bytes_in(folder: Path) -> int:
    """The bytes below a folder that another process writes to."""
    try:
        return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    except OSError:
        return 0


def refusal(package: OptionalPackage) -> str:
    """Why nothing can be installed into this Python, and what to do, in a sentence or two; empty if it can."""
    stdlib, place = sysconfig.get_path("stdlib"), Path(sysconfig.get_path("purelib"))
    if sys.prefix == sys.base_prefix and (Path(stdlib) / "EXTERNALLY-MANAGED").is_file():
        return _OF_THE_SYSTEM
    # Not find_spec of importlib: that of setuptools, which it asks first, replaces distutils and warns.
    if PathFinder.find_spec("pip") is None:
        return (
            f"The Python of this program has no pip. Add it with: “{sys.executable}” -m ensurepip"
        )
    if not platforms.writable(place):
        return (
            f"{place} cannot be written. Install it as the user who owns that folder, with: "
            f"{package.command}"
        )
    free_mb = shutil.disk_usage(place).free / 1e6
    if free_mb < package.disk_mb + package.download_mb:
        return (
            f"{package.title} needs {package.disk_mb + package.download_mb} MB on the disk of {place}, which has "
            f"{free_mb:.0f} MB free. Free some space first."
        )
    return ""


def install(
    package: OptionalPackage,
    tell: Tell = lambda words, share: None,
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Install the package; returns the sentence about the result. ``tell`` is called on the calling thread.

    Raises ``StudioError`` with what to do, and ``Stopped`` when ``stopped`` becomes true during the download; then
    nothing has been installed.
    """
    why = refusal(package)
    if why:
        raise _failed(package, why)
    with _alone(package), tempfile.TemporaryDirectory(prefix="lora-studio-pip-") as place:
        wheels = _download(package, Path(place), tell, stopped)
        tell(f"Installing {package.title}", None)
        code, words = _pip(
            "install",
            "--no-index",
            "--find-links",
            str(wheels),
            "--no-warn-conflicts",
            *_constraints(),
            package.requirement,
        )
        if code:
            raise _failed(package, _explained(package, words))
        tell(f"Trying {package.title}", None)
        found = _try(package)
    return f"{package.title} is installed ({package.name} {found})."


def _download(
    package: OptionalPackage, place: Path, tell: Tell, stopped: Callable[[], bool]
) -> Path:
    """Download the package alone: what it needs is part of the program."""
    wheels, temporary = place / "wheels", place / "tmp"
    temporary.mkdir()
    total = done = 0.0

    def look(lines: list[str]) -> None:
        nonlocal total, done
        if stopped():
            raise Stopped
        total = total or next(filter(None, map(announced_bytes, lines)), 0.0)
        done = max(done, bytes_in(place))  # pip moves the file at the end
        tell(f"Downloading {package.title}", min(done / total, 1.0) if total else None)

    code, words = _pip(
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--progress-bar",
        "off",
        "--retries",
        _RETRIES,
        "-d",
        str(wheels),
        *_constraints(),
        package.requirement,
        temporary=temporary,
        look=look,
    )
    if code:
        raise _failed(package, _explained(package, words))
    return wheels


def _constraints() -> list[str]:
    """The exact versions of a source checkout; an installed program has none."""
    file = bootstrap.SOURCE / "constraints.txt"
    return ["-c", str(file)] if file.is_file() else []


def _pip(
    *arguments: str,
    temporary: Path | None = None,
    look: Callable[[list[str]], None] = lambda lines: None,
) -> tuple[int, str]:
    """Exit code and output of pip; ``look`` is called at intervals, and ends pip by raising."""
    places = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")} if temporary else {}
    command = [python(), "-P", "-m", "pip", *arguments]
    return _run(command, {**_ENVIRONMENT, **places}, look)


def _run(
    command: list[str],
    environment: dict[str, str],
    look: Callable[[list[str]], None] = lambda lines: None,
) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = start_child(command, errors, environment=environment)
        said: list[str] = []
        try:
            for line in _lines(process):
                if line:
                    said.append(line.rstrip())
                look(said)
            code = process.wait()
        finally:
            end_child(process, GRACE_S)
        errors.seek(0)
        return code, "\n".join([*said, errors.read()])


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a child writes, and an empty one at intervals."""
    assert process.stdout is not None
    lines: SimpleQueue[str | None] = SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=POLL_S)
        except Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


def _read(stream: IO[str], lines: SimpleQueue[str | None]) -> None:
    with contextlib.suppress(ValueError):  # it is closed when the child was ended
        for line in stream:
            lines.put(line)
    lines.put(None)


@contextlib.contextmanager
def _alone(package: OptionalPackage) -> Iterator[None]:
    """No other process installs packages meanwhile, as far as they are those of this program."""
    venv = environment()
    if not (venv / requirements.STAMP).is_file():
        yield
        return
    with set_up.locked_now(venv) as held:
        if not held:
            raise _failed(
                package,
                "Another LoRA Studio process is installing packages. Try again when it is done.",
            )
        yield


def _try(package: OptionalPackage) -> str:
    """Import it in a fresh process, which tells its version; remove it again if that fails."""
    importlib.invalidate_caches()
    program = _TRY.format(module=package.module, name=package.name)
    code, words = _run([python(), "-P", "-c", program], {})
    if code == 0:
        return words.strip().splitlines()[-1]
    _pip("uninstall", "-y", package.name)
    last = [line for line in words.splitlines() if line.strip()][-1:] or [f"exit code {code}"]
    raise _failed(
        package,
        f"It was installed, but does not work on this computer ({last[0].strip()}), and was removed again.",
    )


def _explained(package: OptionalPackage, words: str) -> str:
    """Why pip failed, and what to do."""
    if any(mark in words for mark in set_up.NO_NETWORK):
        return (
            "The package index cannot be reached. Check the network connection and pip's index and proxy settings, "
            "and try again."
        )
    if "No space left on device" in words or "not enough space" in words:
        return "The disk is full. Free some space, and try again."
    if "externally-managed-environment" in words:
        return _OF_THE_SYSTEM
    if any(mark in words for mark in _NO_BUILD):
        return (
            f"The package index of this computer has no build of {package.name} for its system and Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}."
        )
    errors = [line for line in words.splitlines() if line.startswith("ERROR")]
    why = (errors or words.strip().splitlines()[-1:] or ["no reason was given"])[0]
    return f"pip says: {why.removeprefix('ERROR: ').strip()}"


def _failed(package: OptionalPackage, why: str) -> StudioError:
    return StudioError(
        f"{package.title} could not be installed.",
        title="The installation failed",
        hint=why,
        code="not_installed",
    )
