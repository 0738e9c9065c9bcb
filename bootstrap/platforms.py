"""What keeps this Python or this system from running the packages, in one sentence with the way out.

Why: pip only says that there is no matching distribution, and a library that does not load only names itself. The
limits are those of the wheels of the pinned versions, as pip resolved them for each platform.

It must not change anything, apart from a test file that `writable()` removes again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
RECOMMENDED = "3.13"
OLDEST_MACOS = (14,)
OLDEST_GLIBC = {"x86_64": (2, 34), "aarch64": (2, 39)}
"""What PySide6 6.11 needs; torch 2.13 needs 2.28."""
OLDEST_RUNTIME = (14, 40)
"""The Visual C++ runtime that torch loads with on Windows since version 2.9: with an older msvcp140.dll its c10.dll
fails as “WinError 1114” (issue 169429 of pytorch)."""

LONGEST_PATH = 259
"""The limit of Windows for a path without long path support: 260 characters, a zero included."""
DEEPEST_PACKAGE_FILE = len(r"\Lib\site-packages\ ".rstrip()) + 171
"""Of the pinned packages; the deepest are licences in torch's .dist-info."""
LONG_PATHS_COMMAND = (
    r"Set-ItemProperty HKLM:\SYSTEM\CurrentControlSet\Control\FileSystem LongPathsEnabled 1"
)
_SSE42 = 38  # PF_SSE4_2_INSTRUCTIONS_AVAILABLE


@dataclass(frozen=True)
class Host:
    """The facts about this Python and system that decide."""

    python: tuple[int, int] = sys.version_info[:2]
    implementation: str = field(default_factory=platform.python_implementation)
    free_threaded: bool = field(
        default_factory=lambda: bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    )
    bits: int = 64 if sys.maxsize > 2**32 else 32
    system: str = sys.platform
    machine: str = field(default_factory=lambda: machine())
    macos: tuple[int, ...] = field(default_factory=lambda: _macos())
    rosetta: bool = field(default_factory=lambda: _rosetta())
    glibc: tuple[int, ...] = field(default_factory=lambda: _glibc())
    sse42: bool = field(default_factory=lambda: _has_sse42())


def machine() -> str:
    """The processor that this Python is built for; `platform.machine()` names that of the computer on Windows, where
    a Python for x86 also runs on Arm."""
    if sys.platform != "win32":
        return platform.machine()
    built = {"win-amd64": "AMD64", "win-arm64": "ARM64", "win32": "x86"}
    return built.get(sysconfig.get_platform(), platform.machine())


def problem(host: Host | None = None) -> str | None:
    """Why the packages cannot be installed here, or None."""
    host = host or Host()
    return _python_problem(host) or _system_problem(host)


def old_python(which: Callable[[str], str | None] = shutil.which) -> str:
    """The sentence for a Python that is too old to import the other files of this folder."""
    names = [f"python3.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1)]
    here = "" if sys.platform == "win32" else next((name for name in names if which(name)), "")
    start = f"py -{RECOMMENDED}" if sys.platform == "win32" else (here or f"python{RECOMMENDED}")
    install = "" if here else f"Install Python {RECOMMENDED}, for example from python.org. "
    return (
        f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer is required, but this is "
        f"{sys.version.split()[0]} ({sys.executable}). {install}Start with: {start} main.py"
    )


def _python_problem(host: Host) -> str | None:
    version = ".".join(map(str, host.python))
    newest = ".".join(map(str, NEWEST_PYTHON))
    start = (
        f"py -{RECOMMENDED} main.py" if host.system == "win32" else f"python{RECOMMENDED} main.py"
    )
    install = f"Install Python {RECOMMENDED} and start with: {start}"
    if host.python > NEWEST_PYTHON:
        return f"torch has no build for Python {version} yet, only for versions up to {newest}. {install}"
    if host.implementation != "CPython":
        return f"torch has no build for {host.implementation}. {install}"
    if host.free_threaded:
        return f"Qt has no build for a free-threaded Python. {install}"
    if host.bits == 32:
        return (
            f"this Python is a 32-bit program, and torch has only 64-bit builds. {install} (64-bit)"
        )
    return None


def _system_problem(host: Host) -> str | None:
    arm = host.machine.lower() in ("arm64", "aarch64")
    if host.system == "darwin":
        if not arm and host.rosetta:
            return (
                "this Python is built for Intel, but this Mac has an Apple processor. Install Python "
                f"{RECOMMENDED} from python.org, which is built for both, and start with: python{RECOMMENDED} main.py"
            )
        if not arm:
            return (
                "torch has no builds for Macs with an Intel processor since version 2.3. Use another computer: "
                "a Mac with an Apple processor, Windows or Linux."
            )
        if host.macos and host.macos < OLDEST_MACOS:
            return (
                f"torch needs macOS {OLDEST_MACOS[0]} or newer, but this is macOS "
                f"{'.'.join(map(str, host.macos))}. Update macOS in System Settings, then start again."
            )
        return None
    if host.system == "win32" and arm:
        return (
            "torch and pyarrow have no builds for Python on Arm under Windows. Install the 64-bit Python for x86 "
            f"(AMD64) {RECOMMENDED}, which Windows emulates, and start with: py -V:{RECOMMENDED} main.py"
        )
    if not arm and host.machine.lower() not in ("x86_64", "amd64"):
        return f"torch has no build for this processor ({host.machine}); x86-64 and 64-bit Arm have one."
    if not arm and not host.sse42:
        return (
            "this processor lacks SSE4.2, which NumPy, pyarrow and Qt need. Processors since about 2011 "
            "have it: use another computer."
        )
    return _libc_problem(host) if host.system.startswith("linux") else None


def _libc_problem(host: Host) -> str | None:
    if not host.glibc:
        return (
            "torch has no build for Linux without glibc, such as Alpine with musl. Use a distribution "
            "with glibc, such as Debian or Fedora."
        )
    oldest = OLDEST_GLIBC.get(host.machine, ())
    if oldest and host.glibc < oldest:
        names = (
            "Debian 13, Ubuntu 24.04 or Fedora 40"
            if host.machine == "aarch64"
            else "Debian 12, Ubuntu 22.04, RHEL 9 or Fedora 35"
        )
        return (
            f"Qt needs glibc {'.'.join(map(str, oldest))} or newer, but this Linux has "
            f"{'.'.join(map(str, host.glibc))}. Use {names}, or newer."
        )
    return None


def _macos() -> tuple[int, ...]:
    if sys.platform != "darwin":
        return ()
    try:  # platform.mac_ver() returns 10.16 in a Python that was built for an old SDK
        text = subprocess.run(
            ["sw_vers", "-productVersion"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "SYSTEM_VERSION_COMPAT": "0"},
            timeout=15,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = platform.mac_ver()[0]
    return _numbers(text)


def _rosetta() -> bool:
    if sys.platform != "darwin":
        return False
    try:
        answer = subprocess.run(
            ["sysctl", "-n", "sysctl.proc_translated"],
            capture_output=True,
            timeout=15,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == b"1"


def _glibc() -> tuple[int, ...]:
    if sys.platform == "win32":
        return ()
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ()
    return _numbers(text.rpartition(" ")[2])


def _has_sse42() -> bool:
    """Whether an x86 processor has SSE4.2; unknown counts as yes."""
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(_SSE42))
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "sse4_2")
    return "sse4_2" in flags.replace(":", " ").split()


def _numbers(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.strip().split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


# ---------------------------------------------------------------- libraries that do not load


def runtime_problem(path: str, version: tuple[int, ...]) -> str | None:
    """Why torch cannot load with this Visual C++ runtime, or None; both empty if there is none."""
    needed = ".".join(map(str, OLDEST_RUNTIME))
    install = "winget install Microsoft.VCRedist.2015+.x64"
    if not path:
        return f"torch needs the Microsoft Visual C++ runtime. Install it with: {install}"
    if not version or version[:2] >= OLDEST_RUNTIME:
        return None
    found = f"torch needs the Microsoft Visual C++ runtime {needed} or newer, but version "
    found += f"{'.'.join(map(str, version[:2]))} is loaded from {path}."
    if "system32" in path.lower():
        return f"{found} Update it with: {install}"
    return (
        f"{found} It belongs to this Python ({sys.executable}), as with Anaconda. Update it with: conda update "
        f"vc14_runtime. Or install Python {RECOMMENDED} from python.org and start with: py -{RECOMMENDED} main.py"
    )


RUNTIME_HINT = (
    "Install the newest one with: winget install Microsoft.VCRedist.2015+.x64. If that does not help, as with "
    f"Anaconda, which brings its own, install Python {RECOMMENDED} from python.org and start with: py "
    f"-{RECOMMENDED} main.py"
)


OLD_RUNTIME = (
    "its libraries need a newer Microsoft Visual C++ runtime than the one that is found first."
)


def is_old_runtime(output: str) -> bool:
    """Whether an error of an import means that a library of Windows is missing or too old."""
    return any(mark in output for mark in ("WinError 1114", "WinError 126", "DLL load failed"))


def import_problem(status: int, output: str) -> str:
    """Why torch was installed but does not load, from the exit status and output of an import."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if is_old_runtime(output):
        return f"torch does not load: {OLD_RUNTIME} {RUNTIME_HINT}"
    if status in (-4, 0xC000001D, 0xC000001D - 2**32):
        return "torch does not load: it uses instructions that this processor does not have. Use another computer."
    if "GLIBC" in output:
        return "torch does not load: this Linux is too old for it. Update the system."
    last = lines[-1] if lines else f"it ended with status {status}"
    return f"torch was installed but does not load: {last}"


# ---------------------------------------------------------------- folders


def writable(folder: Path) -> bool:
    """Whether files can be created in a folder. `os.access` only sees the read-only attribute on Windows, so a file
    is created and removed. `tempfile` is not used: before Python 3.13 it takes a refusal of Windows for a name in use,
    and tries 2**31 names."""
    file = folder / f".lora-studio-{secrets.token_hex(8)}"
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        return False
    with contextlib.suppress(OSError):  # a scanner may hold it for a moment
        os.unlink(file)
    return True


def store_python() -> bool:
    """Whether this Python is from the Microsoft Store: what it writes to AppData lies elsewhere than its paths say,
    and is deleted with it."""
    return sys.platform == "win32" and "\\windowsapps\\" in f"{sys.base_prefix}\\".lower()


def cloud_folder(path: Path) -> str:
    """The name of the service that copies this folder to a cloud; empty if none does."""
    resolved = os.path.abspath(path)
    for variable in ("OneDrive", "OneDriveCommercial", "OneDriveConsumer"):
        root = os.environ.get(variable, "")
        if root and _inside(resolved, root):
            return "OneDrive"
    parts = Path(resolved).parts
    for name in ("OneDrive", "Dropbox", "Google Drive", "iCloudDrive", "Nextcloud"):
        if any(part == name or part.startswith(f"{name} - ") for part in parts):
            return name
    if any(part.startswith("Dropbox (") or part.endswith(" Dropbox") for part in parts):
        return "Dropbox"  # with the name of a company
    if sys.platform == "darwin":
        home = str(Path.home() / "Library")
        if _inside(resolved, os.path.join(home, "CloudStorage")):
            return "a cloud service"
        if _inside(resolved, os.path.join(home, "Mobile Documents")):
            return "iCloud"
    return ""


def _inside(path: str, root: str) -> bool:
    path, root = os.path.normcase(path), os.path.normcase(os.path.abspath(root))
    return path == root or path.startswith(root.rstrip("\\/") + os.sep)


def long_paths() -> bool:
    """Whether paths may be longer than 259 characters: everywhere but on Windows, and there if it is enabled."""
    if sys.platform != "win32":
        return True
    import winreg

    try:
        with winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem"
        ) as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def path_problem(venv: Path) -> str | None:
    """Why packages cannot be unpacked into an environment at this path, or None."""
    longest = len(str(venv)) + DEEPEST_PACKAGE_FILE
    if longest <= LONGEST_PATH or long_paths():
        return None
    return (
        f"the packages would have paths of {longest} characters in {venv}, and Windows allows {LONGEST_PATH}. Move the "
        f"program to a folder that is at least {longest - LONGEST_PATH} characters shorter, or allow long paths in "
        f"PowerShell as administrator: {LONG_PATHS_COMMAND}"
    )
