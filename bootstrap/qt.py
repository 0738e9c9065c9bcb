"""Whether Qt loads on this machine, and if not, why and what to do.

Why: PySide6 can be installed and still fail to load: a system library is missing or too old, or another
program's older copy is found first. Asked before a window is promised.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from bootstrap import requirements, system

WAYLAND: dict[str, system.Names] = {
    "libwayland-client.so.0": (
        "libwayland-client0",
        "libwayland-client",
        "wayland",
        "libwayland-client0",
    ),
    "libwayland-cursor.so.0": (
        "libwayland-cursor0",
        "libwayland-cursor",
        "wayland",
        "libwayland-cursor0",
    ),
}
_MODULES = ("QtCore", "QtGui", "QtWidgets", "QtSvg")
_WINDOWS_10_1809 = 17763  # the oldest build that Qt 6 supports
_MISSING_FILE = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
_MISSING_VERSION = re.compile(r"(\S+): version [`'](\w+)_([\w.]+)' not found")
_BUILT_FOR = re.compile(r"built for macOS ([\d.]+) which is newer")
_ARCHITECTURE = re.compile(r"incompatible architecture \(have '([^']+)', need '([^']+)'\)")


def window_problem(environment: Mapping[str, str] = os.environ) -> str | None:
    """Why the window cannot open on this machine, as a sentence, or None."""
    named = environment.get("QT_QPA_PLATFORM", "")
    wayland = named.startswith("wayland") or (
        not named and bool(environment.get("WAYLAND_DISPLAY"))
    )
    lacking = [name for name in WAYLAND if not system.loads(name)] if wayland else []
    x11 = named.startswith("xcb") or (not named and bool(environment.get("DISPLAY")))
    needs_x11 = x11 and (not wayland or bool(lacking))  # Qt tries Wayland first, then X11
    return (
        requirements.pyside_problem()
        or system.libraries_problem(window=needs_x11)
        or (_missing_library(lacking[0]) if lacking and not needs_x11 else None)
        or import_problem()
    )


def import_problem() -> str | None:
    """Why Qt cannot be loaded, with what to do, or None if it has been loaded."""
    import importlib

    try:
        for name in _MODULES:
            importlib.import_module(f"PySide6.{name}")
    except (ImportError, OSError) as error:
        return explain(" ".join(str(error).split()))
    return None


def explain(message: str) -> str:
    """The loader's message as a sentence with its remedy."""
    if sys.platform == "win32":
        why = _on_windows(message)
    elif sys.platform == "darwin":
        why = _on_macos(message)
    else:
        why = _on_linux(message)
    return f"Qt cannot be loaded: {why}"


def _on_linux(message: str) -> str:
    missing = _MISSING_FILE.search(message)
    if missing:
        return _missing_library(Path(missing.group(1)).name)
    version = _MISSING_VERSION.search(message)
    if version and version.group(2) == "GLIBC":
        return (
            f"this system is too old for the installed version of Qt, which needs glibc "
            f"{version.group(3)}. Update the system, or use the terminal: main.py run FILE"
        )
    if version or "undefined symbol" in message:
        path = os.environ.get("LD_LIBRARY_PATH", "")
        where = f" in LD_LIBRARY_PATH ({path})" if path else ""
        remedy = "Start without LD_LIBRARY_PATH" if path else _other_python()
        return (
            f"an older library{where} is used in place of the one it needs ({message}). {remedy}."
        )
    return _unknown(message)


def _missing_library(library: str) -> str:
    packages = (system.QT | system.XCB | WAYLAND).get(library)
    manager = system.package_manager()
    sentence = f"the system library {library} is missing."
    if packages is None or not manager:
        return f"{sentence} Install it with the system's package manager."
    names = system.packages_for([packages], manager)
    return f"{sentence} Install it with: {system.install_command(manager, names, system.is_root())}"


def _on_windows(message: str) -> str:
    build = sys.getwindowsversion().build  # type: ignore[attr-defined,unused-ignore]
    if build < _WINDOWS_10_1809:
        return "it needs Windows 10 version 1809 or newer."
    if "DLL load failed" not in message:
        return _unknown(message)
    if _is_conda():
        return (
            f"{message} This Python comes from Anaconda, whose older Visual C++ runtime is loaded first. "
            f"{_other_python()}."
        )
    return (
        f"{message} Install the current Microsoft Visual C++ runtime with: "
        "winget install Microsoft.VCRedist.2015+.x64"
    )


def _on_macos(message: str) -> str:
    built_for = _BUILT_FOR.search(message)
    if built_for:
        return (
            f"it needs macOS {built_for.group(1)} or newer, but this is macOS {platform.mac_ver()[0]}. "
            "Update macOS, or use the terminal: main.py run FILE"
        )
    architecture = _ARCHITECTURE.search(message)
    if architecture:
        have, need = architecture.groups()
        return f"it was installed for {have}, but this Python runs as {need}. {_again()}."
    return _unknown(message)


def _is_conda() -> bool:
    return (Path(sys.base_prefix) / "conda-meta").is_dir()


def _other_python() -> str:
    return (
        f"Install Python from python.org, {_again()} with that Python" if _is_conda() else _again()
    )


def _again() -> str:
    """What installs Qt anew; only an environment may be deleted."""
    if sys.prefix == sys.base_prefix:
        return f"Install it again: {sys.executable} -m pip install --force-reinstall PySide6-Essentials"
    return f"Delete the folder {sys.prefix} and start again"


def _unknown(message: str) -> str:
    return f"{message} {_again()}."
