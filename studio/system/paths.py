"""The folders of LoRA Studio: caches, settings, runs.

``LORA_STUDIO_HOME`` moves all three below one folder (used by tests and portable installs);
``LORA_STUDIO_CACHE`` moves only the cache of models, which is large and can be shared. Folders
are made by the callers that write into them, never here.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "lora-studio"


def _home() -> Path | None:
    value = os.environ.get("LORA_STUDIO_HOME")
    return Path(value).expanduser().resolve() if value else None


def cache_dir() -> Path:
    """Folder for files that can be downloaded or computed again: models, hashes."""
    value = os.environ.get("LORA_STUDIO_CACHE")
    if value:
        return Path(value).expanduser().resolve()
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
