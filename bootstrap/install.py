"""Makes `.venv` and fills it: torch first and on its own, then everything else.

Why: one path for a fresh machine, for an interrupted set-up, and for changed requirements. Every
step can be repeated; the stamp that says "complete" is written last. It must not touch an
environment that works, beyond installing packages into it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap import BootstrapError, requirements, system, torch_source
from bootstrap.progress import Progress, run

NEEDED_GIB = 3.0
_NO_NETWORK = (
    "NewConnectionError",
    "NameResolutionError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "ConnectTimeoutError",
    "ProxyError",
    "Network is unreachable",
)
_PIP_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_USER": "0",
}


@dataclass
class Setup:
    """One set-up: its environment, source of torch, and progress output."""

    source: Path
    venv: Path
    extras: list[str]
    progress: Progress = field(default_factory=Progress)
    lock_file: int = -1

    def pip(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Run pip in the environment; returns the exit status and the tail of its output."""
        python = str(requirements.venv_python(self.venv))
        command = [python, "-m", "pip", *arguments]
        keep_open = [self.lock_file] if self.lock_file >= 0 else []
        return run(command, self.progress, environment=_PIP_ENVIRONMENT, keep_open=keep_open)


def set_up(source: Path, venv: Path, extras: Sequence[str]) -> None:
    """Install what `source` requires into `venv`; raises BootstrapError."""
    setup = Setup(source, venv, sorted({*extras, *requirements.stamped_extras(venv)}))
    setup.progress.phase(f"Setting up LoRA Studio in {venv} (only once; this takes a few minutes)")
    system.check_windows_runtime()
    with locked(venv, setup):
        if requirements.stamp_covers(venv, source, extras):
            return  # another process has completed the set-up
        check_space(venv)
        make_environment(setup)
        heal(venv)
        install_torch(setup)
        install_rest(setup)
        requirements.write_stamp(venv, source, setup.extras)
    setup.progress.phase("Ready")


def check_space(venv: Path) -> None:
    """Fail early if there is not enough disk space for a new environment."""
    if requirements.venv_python(venv).exists():
        return
    free_gib = shutil.disk_usage(venv.parent).free / 2**30
    if free_gib < NEEDED_GIB:
        raise BootstrapError(
            f"the packages need about {NEEDED_GIB:.0f} GiB, but {venv.parent} has {free_gib:.1f} "
            "GiB free."
        )


# ---------------------------------------------------------------- the environment


def make_environment(setup: Setup) -> None:
    """Create `.venv`, or repair it where its interpreter or its pip does not work."""
    python = requirements.venv_python(setup.venv)
    if works(python, "import pip"):
        return
    if works(python, "pass"):
        setup.progress.phase("Adding pip to the Python environment")
        if run([str(python), "-m", "ensurepip"], setup.progress)[0] == 0:
            return
    broken = setup.venv.exists()
    setup.progress.phase(f"{'Repairing' if broken else 'Creating'} the Python environment")
    if not has_ensurepip():
        system.provide_venv()
    status, tail = run([sys.executable, "-m", "venv", "--clear", str(setup.venv)], setup.progress)
    if status != 0 or not works(python, "import pip"):
        raise BootstrapError(explain(tail, "the Python environment could not be created."), tail)


def has_ensurepip() -> bool:
    """Whether this Python can make environments; Debian packages ensurepip separately."""
    importlib.invalidate_caches()
    specs = [importlib.util.find_spec(name) for name in ("venv", "ensurepip")]
    return all(
        spec is not None and spec.origin for spec in specs
    )  # an empty namespace package has no origin


def works(python: Path, statement: str) -> bool:
    """Whether the interpreter is new enough and can run the statement."""
    if not python.exists():
        return False
    check = f"import sys; assert sys.version_info >= (3, 11); {statement}"
    try:
        answer = subprocess.run([str(python), "-c", check], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def site_packages(venv: Path) -> list[Path]:
    """The package folders of an environment."""
    if os.name == "nt":
        return [venv / "Lib" / "site-packages"]
    return sorted(venv.glob("lib/python3*/site-packages"))


def heal(venv: Path) -> None:
    """Remove packages that an interrupted installation left incomplete, so that pip installs them
    again.

    pip writes RECORD last: a package without it is not complete, but pip would call it installed.
    """
    for folder in site_packages(venv):
        for info in folder.glob("*.dist-info"):
            if not (info / "RECORD").is_file():
                shutil.rmtree(info, ignore_errors=True)
        for leftover in folder.glob("~*"):
            shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def locked(venv: Path, setup: Setup) -> Iterator[None]:
    """Hold the lock beside `venv`, so that two processes never install at the same time."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with open(venv.with_name(venv.name + ".lock"), "a+b") as file:
        if not _lock(file.fileno(), wait=False):
            setup.progress.phase("Waiting for another LoRA Studio process to finish the setup")
            _lock(file.fileno(), wait=True)
        setup.lock_file = file.fileno()
        yield


def _lock(descriptor: int, wait: bool) -> bool:
    if sys.platform == "win32":
        import msvcrt
        import time

        while True:
            os.lseek(descriptor, 0, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(0.5)
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


# ---------------------------------------------------------------- the packages


def install_torch(setup: Setup) -> None:
    """Install the pinned torch on its own, from the first source that provides the right build."""
    sources = sources_here(setup)
    if torch_source.acceptable(torch_source.installed(site_packages(setup.venv)), sources[-1]):
        return
    tail = ""
    constraints = ["-c", str(setup.source / "constraints.txt")]
    for number, source in enumerate(sources, 1):
        last = number == len(sources)
        if source.probe and not last and not torch_source.reachable(source.index):
            setup.progress.phase(f"{source.label} does not respond; continuing without it")
            continue
        setup.progress.phase(f"Installing torch {torch_source.VERSION} from {source.label}")
        status, tail = setup.pip(["install", *constraints, *source.arguments()])
        have = torch_source.installed(site_packages(setup.venv))
        if status == 0 and torch_source.acceptable(have, source):
            return
    reason = f"torch {torch_source.VERSION} could not be installed."
    if sources[-1].must_be_cuda:
        reason += " To train on the CPU instead, set LORA_STUDIO_TORCH=cpu and start again."
    raise BootstrapError(explain(tail, reason), tail)


def sources_here(setup: Setup) -> list[torch_source.Source]:
    """The sources of torch to try on this machine."""
    python = str(requirements.venv_python(setup.venv))
    answer = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return torch_source.candidates(
        sys.platform,
        platform.machine(),
        torch_source.has_nvidia(),
        torch_source.names_own_index(answer.stdout),
        os.environ.get("LORA_STUDIO_TORCH", ""),
    )


def install_rest(setup: Setup) -> None:
    """Install everything else at the versions of constraints.txt."""
    wanted = requirements.declared(setup.source, setup.extras)
    setup.progress.phase(f"Installing the other packages ({len(wanted)} and their dependencies)")
    constraints = str(setup.source / "constraints.txt")
    status, tail = setup.pip(["install", "-c", constraints, *wanted])
    if status != 0:
        raise BootstrapError(explain(tail, "the packages could not be installed."), tail)


def explain(tail: str, otherwise: str) -> str:
    """One sentence for a failed step, from the end of the tool's output."""
    if "No space left on device" in tail or "not enough space" in tail:
        return "the disk is full."
    if any(mark in tail for mark in _NO_NETWORK):
        return (
            "the package index cannot be reached. Check the network connection and pip's index "
            "and proxy settings, then start again."
        )
    return otherwise
