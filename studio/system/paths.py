"""The folders of LoRA Studio: caches, settings, runs.

``LORA_STUDIO_HOME`` moves all three below one folder (used by tests and portable installs);
``LORA_STUDIO_CACHE`` moves only the cache of models, which is large and can be shared. Folders
are made by the callers that write into them, never here.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

import platformdirs

from bootstrap.platforms import LONG_PATHS_COMMAND, LONGEST_PATH, long_paths, store_python

_NAME = "lora-studio"
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)


@lru_cache(maxsize=8)
def _folder(value: str) -> Path:
    return Path(value).expanduser().resolve()  # asks the disk about every folder above


def _home() -> Path | None:
    value = os.environ.get("LORA_STUDIO_HOME")
    if value:
        return _folder(value)
    # What a Python of the Microsoft Store writes to AppData lies elsewhere, and is deleted with that Python.
    return Path.home() / _NAME if store_python() else None


def cache_dir() -> Path:
    """Folder for files that can be downloaded or computed again: models, hashes."""
    value = os.environ.get("LORA_STUDIO_CACHE")
    if value:
        return _folder(value)
    home = _home()
    return home / "cache" if home else Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def config_dir() -> Path:
    """Folder for settings and window state."""
    home = _home()
    return home / "config" if home else Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def data_dir() -> Path:
    """Folder for the user's data: runs, by default."""
    home = _home()
    return home / "data" if home else Path(platformdirs.user_data_dir(_NAME, appauthor=False))


def runs_dir() -> Path:
    """Default folder of runs; a setting or ``--runs`` overrides it."""
    return data_dir() / "runs"


def assets_dir() -> Path:
    """The folder of icons, starter projects and sample data that ships with the program."""
    return Path(__file__).resolve().parents[2] / "assets"


def file_name(name: str) -> str:
    """A name as that of a file that every system can store: without the characters and the names of devices
    that Windows reserves."""
    return _allowed(name.strip()[:100]) or "untitled"


def _allowed(name: str) -> str:
    """The nearest name that Windows allows."""
    plain = _FORBIDDEN.sub("-", name).rstrip(". ")
    return f"_{plain}" if _DEVICES.fullmatch(plain.partition(".")[0].rstrip()) else plain


def name_problem(path: Path) -> str:
    """Why Windows cannot create this path because of its names, without a full stop; empty elsewhere."""
    if sys.platform != "win32":
        return ""
    for part in path.parts[1:] if path.anchor else path.parts:
        if part in (".", "..") or _allowed(part) == part:
            continue
        if _FORBIDDEN.search(part):
            return f'“{part}” contains a character that Windows does not allow in names (< > : " | ? *)'
        return f"Windows does not allow the name “{part}”"
    return ""


def length_problem(folder: Path, inside: int) -> str:
    """Why files whose paths in ``folder`` have up to ``inside`` characters do not fit on Windows, without a
    full stop; empty elsewhere, and with long paths enabled."""
    longest = len(str(folder)) + 1 + inside
    if sys.platform != "win32" or longest <= LONGEST_PATH or long_paths():
        return ""
    return (
        f"{folder} is too long: the files in it would have paths of {longest} characters, and Windows allows "
        f"{LONGEST_PATH}"
    )


LENGTH_HINT = (
    "Choose a folder with a shorter path, or allow long paths in PowerShell as administrator: "
    f"{LONG_PATHS_COMMAND}"
)


def current_dir() -> Path:
    """The folder that the program was started in; the home folder if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path.home()


def is_utf8(path: str | Path) -> bool:
    """Whether a name is valid Unicode. File systems allow other names, which Python holds as lone surrogates;
    libraries written in Rust or C++ refuse them."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
