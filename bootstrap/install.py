"""Makes `.venv` and fills it: torch first and on its own, then everything else.

Why: one path for a fresh machine, for an interrupted set-up, and for changed requirements. Every
step can be repeated; the stamp that says "complete" is written last. It must not touch an
environment that works, beyond installing packages into it, and never while a run uses it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap import BootstrapError, cards, in_use, platforms, requirements, system, torch_source
from bootstrap.cards import Driver
from bootstrap.progress import Progress, run
from bootstrap.torch_source import Installed, Source

WAIT_S = 2.0
DOWNLOADS = "lora-studio-downloads"
_CUDA_PACKAGES = ("cuda-toolkit", "cuda-bindings", "cuda-pathfinder", "triton")
NO_NETWORK = (
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


_VERIFY = "import torch; print('CUDA', torch.cuda.is_available())"


@dataclass(frozen=True)
class Size:
    """What packages need in GiB: unpacked, and as downloaded wheels."""

    unpacked: float
    download: float


REST = Size(1.5, 0.6)
TORCH_CPU = Size(0.8, 0.2)
TORCH_CUDA = Size(4.7, 2.7)
"""Measured on Linux x86-64 with torch 2.13.0 for CUDA 13.0, its nvidia packages and triton included."""


@dataclass
class Setup:
    """One set-up: its environment, source of torch, and progress output."""

    source: Path
    venv: Path
    extras: list[str]
    progress: Progress = field(default_factory=Progress)
    lock_file: int = -1
    choice: str = ""
    downloads: Path | None = None
    pip_environment: dict[str, str] = field(default_factory=lambda: dict(_PIP_ENVIRONMENT))

    def pip(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Run pip in the environment; returns the exit status and the tail of its output."""
        python = str(requirements.venv_python(self.venv))
        command = [python, "-m", "pip", *arguments]
        keep_open = [self.lock_file] if self.lock_file >= 0 else []
        return run(command, self.progress, environment=self.pip_environment, keep_open=keep_open)

    def download_into(self, folder: Path) -> None:
        """Let pip use this folder for downloads; it is removed at the end."""
        folder.mkdir(parents=True, exist_ok=True)
        self.downloads = folder
        for name in ("TMPDIR", "TEMP", "TMP"):
            self.pip_environment[name] = str(folder)

    @functools.cached_property
    def driver(self) -> Driver:
        """The NVIDIA driver and its cards, asked once: a broken driver takes its time."""
        return cards.installed()

    def torch(self) -> Installed:
        """The torch that is installed now."""
        return torch_source.installed(site_packages(self.venv))


def set_up(source: Path, venv: Path, extras: Sequence[str]) -> None:
    """Install what `source` requires into `venv`; raises BootstrapError."""
    stamp = requirements.read_stamp(venv)
    setup = Setup(source, venv, sorted({*extras, *requirements.stamped_extras(venv)}))
    setup.choice = torch_source.choice(stamp, os.environ)
    complete = requirements.stamp_covers(venv, source, extras)
    if complete and not replaces_torch(setup, stamp):
        tell_about_cards(setup)
        requirements.write_stamp(venv, source, setup.extras, torch_source.record(setup.choice))
        return
    optional = complete and not os.environ.get(torch_source.CHOICE)
    if optional and in_use.users(venv):
        setup.progress.phase(
            "Another build of torch suits this machine better. It is installed at the next start "
            f"after these end: {', '.join(in_use.users(venv))}"
        )
        return
    what = "Changing torch" if complete else "Setting up LoRA Studio"
    setup.progress.phase(f"{what} in {venv} (only once; this takes a few minutes)")
    if not optional:
        check_machine(venv)
    with locked(venv, setup):
        if requirements.stamp_covers(venv, source, extras) and requirements.torch_settled(venv):
            return  # another process has completed the set-up
        wait_for_users(setup)
        make_environment(setup)
        heal(venv)
        try:
            replaced = install_torch(setup, stamp, optional)
            if optional and not replaced:
                return
            install_rest(setup)
        finally:
            if setup.downloads:
                shutil.rmtree(setup.downloads, ignore_errors=True)
        verify(setup)
        requirements.write_stamp(venv, source, setup.extras, torch_source.record(setup.choice))
    setup.progress.phase("Ready")


def check_machine(venv: Path) -> None:
    """Fail before anything is downloaded where the packages cannot be installed or run."""
    problem = platforms.problem() or platforms.path_problem(venv)
    if problem:
        raise BootstrapError(problem)
    system.check_windows_runtime()


def wait_for_users(setup: Setup) -> None:
    """Wait until no run and no window uses the environment whose packages are about to change."""
    shown: list[str] = []
    while True:
        found = in_use.users(setup.venv)
        if not found:
            return
        if found != shown:
            setup.progress.phase(
                "The packages change, so this start waits for the programs that use them: "
                f"{', '.join(found)}. Close the window, or end a run with "
                f"{requirements.launcher()} main.py stop RUN, to continue sooner."
            )
            shown = found
        time.sleep(WAIT_S)


def check_space(setup: Setup, torch: Size | None) -> None:
    """Fail early if the disks have too little space for what is installed, downloaded and cached.

    Where only copies do not fit, pip keeps none; where the temporary folder is too small, as one
    in memory is, it downloads beside the environment.
    """
    rest = None if requirements.venv_python(setup.venv).exists() and setup.torch().version else REST
    wanted = [size for size in (torch, rest) if size]
    if not wanted:
        return
    beside, temporary = setup.venv.parent, Path(tempfile.gettempdir())
    unpacked = (beside, sum(s.unpacked for s in wanted))
    cached = (_pip_cache(), sum(s.download for s in wanted))
    short = None
    for place in (temporary, beside):
        downloaded = (place, max(s.download for s in wanted))
        for copies in ([cached], []):
            short = _short([unpacked, downloaded, *copies])
            if short is None:
                if not copies:
                    setup.pip_environment["PIP_NO_CACHE_DIR"] = "1"
                if place is beside:
                    setup.download_into(setup.venv / DOWNLOADS)
                return
    assert short is not None
    folder, gib, free_gib = short
    smaller = (
        " torch for an NVIDIA card is large: to install the smaller one for the CPU, set "
        f"{torch_source.CHOICE}=cpu and start again."
    )
    raise BootstrapError(
        f"the packages need about {gib:.1f} GiB on the disk of {folder}, which has {free_gib:.1f} "
        "GiB free. Free some space, or move the program to another disk."
        + (smaller if torch is TORCH_CUDA else "")
    )


def _short(needed: Sequence[tuple[Path, float]]) -> tuple[Path, float, float] | None:
    """The first disk with too little space: a folder on it, what is needed there, what is free."""
    disks: dict[int, tuple[Path, float]] = {}
    for folder, gib in needed:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        first, before = disks.get(folder.stat().st_dev, (folder, 0.0))
        disks[folder.stat().st_dev] = (first, before + gib)
    for folder, gib in disks.values():
        usage = shutil.disk_usage(folder)
        if usage.total and usage.free / 2**30 < gib:  # some file systems do not count
            return folder, gib, usage.free / 2**30
    return None


def _pip_cache() -> Path:
    """Where pip keeps downloads; an approximation that only decides which disk is measured."""
    given = os.environ.get("PIP_CACHE_DIR")
    if given:
        return Path(given)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home())
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


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
    shutil.rmtree(venv / DOWNLOADS, ignore_errors=True)
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


@contextlib.contextmanager
def locked_now(venv: Path) -> Iterator[bool]:
    """Hold the lock beside `venv` unless another process does; whether it is held. Nothing waits."""
    with open(venv.with_name(venv.name + ".lock"), "a+b") as file:
        yield _lock(file.fileno(), wait=False)


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


def replaces_torch(setup: Setup, stamp: dict[str, object]) -> bool:
    """Whether the installed build of torch is not the one for this machine or this choice."""
    recorded = stamp.get("torch")
    before = recorded.get("choice") if isinstance(recorded, dict) else setup.choice
    source = sources_here(setup)[-1]
    return not torch_source.acceptable(setup.torch(), source) or (
        before != setup.choice and bool(setup.choice) and not source.accepts
    )


def install_torch(setup: Setup, stamp: dict[str, object], optional: bool = False) -> bool:
    """Install the pinned torch on its own, from the first source that provides the right build.

    Returns whether it is the right one now. An `optional` change of a working torch that fails is
    reported, and tried again at the next start.
    """
    tell_about_cards(setup)
    if not replaces_torch(setup, stamp):
        check_space(setup, None)
        return True
    sources = sources_here(setup)
    cuda = sources[-1].accepts not in ((), ("cpu",))
    before = setup.torch()
    try:
        check_space(setup, TORCH_CUDA if cuda else TORCH_CPU)
        requirements.remove_stamp(
            setup.venv
        )  # an interruption from here on is repaired at the next start
        _install_from(setup, sources)
    except BaseException as error:
        if stamp and setup.torch() == before:
            requirements.restore_stamp(setup.venv, stamp)
        if not isinstance(error, BootstrapError) or not optional or setup.torch() != before:
            raise
        setup.progress.phase(
            f"torch could not be replaced by the build for this machine: {error.sentence} Training "
            "runs on the CPU until this succeeds; it is tried again at the next start."
        )
        return False
    return True


def tell_about_cards(setup: Setup) -> None:
    """Name the cards that torch cannot use, and what to do."""
    if setup.choice not in ("", "cuda"):
        return
    for notice in torch_source.decide(sys.platform, platforms.machine(), setup.driver).notices:
        setup.progress.phase(notice)


def _install_from(setup: Setup, sources: Sequence[Source]) -> None:
    tail = ""
    constraints = ["-c", str(setup.source / "constraints.txt")]
    for number, source in enumerate(sources, 1):
        last = number == len(sources)
        if source.probe and not last and not torch_source.reachable(source.index):
            setup.progress.phase(f"{source.label} does not respond; continuing without it")
            continue
        setup.progress.phase(f"Installing torch {torch_source.VERSION} from {source.label}")
        status = 0
        if setup.torch().version:  # pip counts another build of this version as installed
            replace = ["install", *constraints, "--force-reinstall", "--no-deps"]
            status, tail = setup.pip([*replace, *source.arguments()])
            if status == 0:
                _remove_cuda_packages(setup)
        if status == 0:
            status, tail = setup.pip(["install", *constraints, *source.arguments()])
        if status == 0 and torch_source.acceptable(setup.torch(), source):
            return
    reason = f"torch {torch_source.VERSION} could not be installed."
    if sources[-1].accepts not in ((), ("cpu",)):
        reason += f" To train on the CPU instead, set {torch_source.CHOICE}=cpu and start again."
    raise BootstrapError(explain(tail, reason), tail)


def _remove_cuda_packages(setup: Setup) -> None:
    """Remove what the previous build of torch needed; the new build installs its own."""
    names = {
        info.name.removesuffix(".dist-info").rpartition("-")[0].replace("_", "-").lower()
        for folder in site_packages(setup.venv)
        for info in folder.glob("*.dist-info")
    }
    unneeded = sorted(
        name
        for name in names
        if (name.startswith("nvidia-") and name != "nvidia-ml-py") or name in _CUDA_PACKAGES
    )
    if unneeded:
        setup.pip(["uninstall", "-y", *unneeded])


def sources_here(setup: Setup) -> list[Source]:
    """The sources of torch to try on this machine."""
    python = str(requirements.venv_python(setup.venv))
    try:
        answer = subprocess.run(
            [python, "-m", "pip", "config", "list"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **_PIP_ENVIRONMENT},
            check=False,
        ).stdout
    except OSError:
        answer = ""
    return torch_source.candidates(
        sys.platform,
        platforms.machine(),
        setup.driver,
        torch_source.names_own_index(answer),
        setup.choice,
    )


def verify(setup: Setup) -> None:
    """Import torch once in the new environment, and ask it for the card that it was chosen for."""
    setup.progress.phase("Checking that torch works")
    python = str(requirements.venv_python(setup.venv))
    status, tail = run([python, "-P", "-c", _VERIFY], setup.progress, lambda line: None)
    if status != 0:
        raise BootstrapError(platforms.import_problem(status, tail), tail)
    if setup.torch().cuda and setup.driver.cards and "CUDA True" not in tail:
        lines = [
            line.strip()
            for line in tail.splitlines()
            if "CUDA" in line and "CUDA False" not in line
        ]
        reason = lines[0] if lines else "it gives no reason"
        setup.progress.phase(
            "torch cannot use the NVIDIA card, so training runs on the CPU. "
            f"Its reason: {reason}. Updating the driver usually helps."
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
    if any(mark in tail for mark in NO_NETWORK):
        return (
            "the package index cannot be reached. Check the network connection and pip's index "
            "and proxy settings, then start again."
        )
    return otherwise
