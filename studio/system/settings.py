"""The program's own settings, as a TOML file in the user's configuration folder.

A file that cannot be read is kept aside and the defaults are used: the program always opens. Window
state is not here (Qt keeps it), and neither are secrets (the system's keyring does).
"""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio.errors import StudioError
from studio.system import busy_files, paths
from studio.system.atomic import write_atomic
from studio.system.disk import what_to_do
from studio.system.stored_json import read_regular

RECENT_LIMIT = 10


class AppSettings(BaseModel):
    """The user's settings of the program. An empty ``runs_folder`` means the default;
    ``token_cache_gb`` bounds the tokenised data that is kept for later runs, 0 keeps none; keys of
    a newer version are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    theme: Literal["system", "dark", "light"] = "system"
    runs_folder: str = ""
    run_in: Literal["host", "thread"] = "host"
    leave_core: bool = True
    scrolling: Literal["auto", "zoom", "pan"] = "auto"
    keep_awake: bool = True
    token_cache_gb: float = Field(5.0, ge=0.0)
    recent: list[str] = []

    def runs_dir(self) -> Path:
        """Where runs are made."""
        return Path(self.runs_folder).expanduser() if self.runs_folder else paths.runs_dir()

    def with_recent(self, path: Path) -> AppSettings:
        """The settings with this project as the most recent one."""
        first = str(path.resolve())
        rest = [p for p in self.recent if p != first]
        return self.model_copy(update={"recent": [first, *rest][:RECENT_LIMIT]})


@dataclass(frozen=True)
class Loaded:
    """Settings, and a sentence for the user if a part of the file was invalid."""

    settings: AppSettings
    notice: str = ""


def settings_path() -> Path:
    """The settings file."""
    return paths.config_dir() / "settings.toml"


def load_settings(path: Path | None = None) -> Loaded:
    """The settings in the file; defaults and a notice for invalid ones."""
    path = path or settings_path()
    try:
        data = tomllib.loads(read_regular(path).decode("utf-8-sig"))
    except FileNotFoundError:
        return Loaded(AppSettings())
    except (OSError, ValueError, RecursionError) as error:
        return Loaded(AppSettings(), _put_aside(path, str(error)))
    return _usable(data, path)


def _usable(data: dict[str, Any], path: Path) -> Loaded:
    """The settings with defaults for invalid ones."""
    try:
        return Loaded(AppSettings.model_validate(data))
    except ValidationError as error:
        wrong = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
        kept = {k: v for k, v in data.items() if k not in wrong}
        names = ", ".join(sorted(wrong))
        notice = f"Invalid settings in {path} were reset to their defaults: {names}."
        return Loaded(AppSettings.model_validate(kept), notice)


def _put_aside(path: Path, why: str) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        busy_files.replace(path, aside)
    return f"The settings in {path} could not be read ({why}). It was kept as {aside.name}."


def save_settings(settings: AppSettings, path: Path | None = None) -> None:
    """Write the settings; raises ``StudioError`` when that fails."""
    path = path or settings_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, tomli_w.dumps(settings.model_dump(mode="json")))
    except OSError as error:
        raise StudioError(
            f"The settings could not be saved in {path}: {error.strerror or error}.",
            title="The settings were not saved",
            hint=what_to_do(error),
            code="save_failed",
            file=str(path),
        ) from error
