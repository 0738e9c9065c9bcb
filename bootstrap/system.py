"""Finds missing system packages and the command that installs them.

Why: Qt's wheels load libraries that only the system has, and Debian ships `venv` apart. A missing
one shows up later as a crash without a reason; here it becomes a command to type. As root on
Debian or Ubuntu the command is run after a yes: typed in the terminal, or given before as ``--yes`` or
LORA_STUDIO_YES=1. Without a terminal nobody is asked, and nothing is installed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from bootstrap import YES, BootstrapError, platforms, say
from bootstrap.progress import Progress, apt_detail, run

# library: (apt, dnf, pacman, zypper)
Names = tuple[str, str, str, str]
QT: dict[str, Names] = {
    "libEGL.so.1": ("libegl1", "libglvnd-egl", "libglvnd", "Mesa-libEGL1"),
    "libGL.so.1": ("libgl1", "libglvnd-glx", "libglvnd", "Mesa-libGL1"),
    "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon", "libxkbcommon", "libxkbcommon0"),
    "libdbus-1.so.3": ("libdbus-1-3", "dbus-libs", "dbus", "libdbus-1-3"),
    "libfontconfig.so.1": ("libfontconfig1", "fontconfig", "fontconfig", "fontconfig"),
    "libglib-2.0.so.0": ("libglib2.0-0", "glib2", "glib2", "libglib-2_0-0"),
    "libX11.so.6": ("libx11-6", "libX11", "libx11", "libX11-6"),
}
XCB: dict[str, Names] = {
    "libX11-xcb.so.1": ("libx11-xcb1", "libX11-xcb", "libx11", "libX11-xcb1"),
    "libxkbcommon-x11.so.0": (
        "libxkbcommon-x11-0",
        "libxkbcommon-x11",
        "libxkbcommon-x11",
        "libxkbcommon-x11-0",
    ),
    "libxcb-cursor.so.0": (
        "libxcb-cursor0",
        "xcb-util-cursor",
        "xcb-util-cursor",
        "libxcb-cursor0",
    ),
    "libxcb-icccm.so.4": ("libxcb-icccm4", "xcb-util-wm", "xcb-util-wm", "libxcb-icccm4"),
    "libxcb-image.so.0": ("libxcb-image0", "xcb-util-image", "xcb-util-image", "libxcb-image0"),
    "libxcb-keysyms.so.1": (
        "libxcb-keysyms1",
        "xcb-util-keysyms",
        "xcb-util-keysyms",
        "libxcb-keysyms1",
    ),
    "libxcb-render-util.so.0": (
        "libxcb-render-util0",
        "xcb-util-renderutil",
        "xcb-util-renderutil",
        "libxcb-render-util0",
    ),
    "libxcb-randr.so.0": ("libxcb-randr0", "libxcb", "libxcb", "libxcb-randr0"),
    "libxcb-shape.so.0": ("libxcb-shape0", "libxcb", "libxcb", "libxcb-shape0"),
    "libxcb-xkb.so.1": ("libxcb-xkb1", "libxcb", "libxcb", "libxcb-xkb1"),
}
MANAGERS = ("apt-get", "dnf", "pacman", "zypper")
_INSTALL = {
    "apt-get": "apt-get install -y --no-install-recommends",
    "dnf": "dnf install -y",
    "pacman": "pacman -S --needed",
    "zypper": "zypper install -y",
}


def loads(library: str) -> bool:
    """Whether the dynamic loader finds that library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_libraries(window: bool, load: Callable[[str], bool] = loads) -> dict[str, Names]:
    """Libraries that Qt needs and this Linux lacks; `window` adds those of an X11 display."""
    if not sys.platform.startswith("linux"):
        return {}
    wanted = {**QT, **XCB} if window else QT
    return {name: packages for name, packages in wanted.items() if not load(name)}


def package_manager(which: Callable[[str], str | None] = shutil.which) -> str:
    """The system's package manager, or an empty string."""
    return next((name for name in MANAGERS if which(name)), "")


def packages_for(missing: Iterable[Names], manager: str) -> list[str]:
    """Names of the packages for this package manager, without duplicates."""
    column = MANAGERS.index(manager)
    return list(dict.fromkeys(names[column] for names in missing))


def install_command(manager: str, packages: Sequence[str], root: bool) -> str:
    """The command that installs the packages."""
    return f"{'' if root else 'sudo '}{_INSTALL[manager]} {' '.join(packages)}"


def libraries_problem(window: bool) -> str | None:
    """An error message with the command that installs what Qt needs, or None; with apt as root,
    install it after a yes."""
    missing = missing_libraries(window)
    if not missing:
        return None
    manager = package_manager()
    named = f"Qt needs system libraries that are missing here: {', '.join(missing)}."
    if not manager:
        return f"{named} Install them with the system's package manager."
    packages = packages_for(missing.values(), manager)
    command = install_command(manager, packages, is_root())
    if manager != "apt-get" or not is_root():
        return f"{named} Install them with: {command}"
    if may_install(named, command):
        failure = apt_install(packages)
        missing = missing_libraries(window)
        if not missing:
            return None
        named = f"{named} apt-get could not install them: {failure or 'they still do not load'}."
        return f"{named} Install them with: {command}"
    return f"{named} {_not_installed(command)}"


def may_install(what: str, command: str) -> bool:
    """Say what is missing and which command installs it, and whether the answer is yes."""
    if os.environ.get(YES, "") not in ("", "0"):
        say(f"{what} Installing with: {command}")
        return True
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        return False
    say(f"{what} This command installs what is missing: {command}")
    print("Run it now? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _not_installed(command: str) -> str:
    return f"Install with: {command} (or start again with --yes, which runs this command)"


def is_root() -> bool:
    """Whether this process may install system packages."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install(packages: Sequence[str]) -> str:
    """Install Debian packages as root; returns the last line of the output if that failed."""
    progress = Progress()
    progress.phase(f"Installing system packages: {' '.join(packages)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=120"]
    run(
        ["apt-get", *wait, "update"], progress, apt_detail, environment
    )  # the install command below reports failures
    command = ["apt-get", *wait, "install", "-y", "--no-install-recommends", *packages]
    status, tail = run(command, progress, apt_detail, environment)
    lines = tail.strip().splitlines()
    return "" if status == 0 else (lines[-1] if lines else f"exit status {status}")


def provide_venv() -> None:
    """Install Debian's python3-venv after a yes; raises BootstrapError with the command if that is not
    possible."""
    from bootstrap.install import has_ensurepip

    manager = package_manager()
    if manager != "apt-get":
        raise BootstrapError(
            f"this Python ({sys.executable}) cannot create virtual environments: its modules venv "
            "and ensurepip are missing. Install a complete Python 3.11 or newer."
        )
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    command = install_command(manager, [package], is_root())
    named = "Python's venv module is missing"
    if not is_root():
        raise BootstrapError(f"{named}. Install it with: {command}")
    if not may_install(f"{named}.", command):
        raise BootstrapError(f"{named}. {_not_installed(command)}")
    failure = apt_install([package])
    if not has_ensurepip():
        raise BootstrapError(
            f"{named} ({failure or 'it still does not load'}). Install it with: {command}"
        )


def check_windows_runtime() -> None:
    """Fail early if torch cannot be loaded on Windows."""
    if sys.platform != "win32":
        return
    problem = platforms.runtime_problem(*windows_runtime())
    if problem:
        raise BootstrapError(problem)


def windows_runtime() -> tuple[str, tuple[int, ...]]:
    """Path and version of the Visual C++ runtime that this Python loads; empty if there is none."""
    if sys.platform != "win32":
        return "", ()
    from ctypes import wintypes

    try:
        handle = ctypes.CDLL("msvcp140.dll")._handle
    except OSError:
        return "", ()
    buffer = ctypes.create_unicode_buffer(1024)
    ctypes.windll.kernel32.GetModuleFileNameW(wintypes.HMODULE(handle), buffer, 1024)
    path = buffer.value
    size = ctypes.windll.version.GetFileVersionInfoSizeW(path, None)
    data = ctypes.create_string_buffer(size or 1)
    block, length = ctypes.c_void_p(), ctypes.c_uint()
    query = ctypes.windll.version.VerQueryValueW
    if (
        not size
        or not ctypes.windll.version.GetFileVersionInfoW(path, 0, size, data)
        or not query(data, "\\", ctypes.byref(block), ctypes.byref(length))
    ):
        return path, ()  # unknown: the import after the installation tells
    # VS_FIXEDFILEINFO: the third and fourth word are the file version, 16 bits a number.
    words = ctypes.cast(block, ctypes.POINTER(ctypes.c_uint32 * 4)).contents
    return path, (words[2] >> 16, words[2] & 0xFFFF, words[3] >> 16, words[3] & 0xFFFF)
