"""Which packages the studio needs, which are missing here, and whether `.venv` is up to date.

Why: `pyproject.toml` is the one list of requirements; this file reads it without pip, and fast
(it runs at every start). It must not import what it looks for: torch takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bootstrap import platforms

STAMP = "lora-studio-ready.json"
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*?)\s*(?:;\s*(.*))?$")
_CLAUSE = re.compile(r"^\s*(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")
_MARKER = re.compile(r"python_version\s*(<|>=)\s*['\"](\d+)\.(\d+)['\"]")


def needed(source: Path, extras: Sequence[str] = ()) -> list[str]:
    """What this interpreter needs: of the project in `source`, or of the installed one."""
    if not (source / "pyproject.toml").is_file():
        return _installed_requirements()
    return [text for text in declared(source, extras) if applies(text)]


def declared(source: Path, extras: Sequence[str] = ()) -> list[str]:
    """Requirement strings of `pyproject.toml`, for every Python, markers included."""
    import tomllib

    with (source / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    found: list[str] = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return found


def _installed_requirements() -> list[str]:
    from importlib import metadata

    try:
        found = metadata.requires("lora-studio") or []
    except metadata.PackageNotFoundError:
        return []
    return [text for text in found if "extra ==" not in text and applies(text)]


def applies(requirement: str, python: tuple[int, int] = sys.version_info[:2]) -> bool:
    """Whether the requirement's python_version marker (the only kind we use) holds."""
    marker = _MARKER.search(requirement.partition(";")[2])
    if not marker:
        return True
    limit = (int(marker.group(2)), int(marker.group(3)))
    return python < limit if marker.group(1) == "<" else python >= limit


def missing(requirements: Sequence[str]) -> list[str]:
    """Those requirements that this interpreter does not satisfy, in order; empty when ready."""
    from importlib import metadata

    found = []
    for text in requirements:
        name, specifier = split(text)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(text.partition(";")[0].strip())
            continue
        if not satisfies(version, specifier):
            found.append(f"{name}{specifier} (here: {version})")
    return found


def split(requirement: str) -> tuple[str, str]:
    """Name and version specifier of a requirement string."""
    match = _REQUIREMENT.match(requirement)
    if not match:
        raise ValueError(f"not a requirement: {requirement!r}")
    return match.group(1), match.group(2).replace(" ", "").strip("()")


def satisfies(version: str, specifier: str) -> bool:
    """Whether `version` meets `specifier`; numbers only, local parts like +cpu do not count."""
    have = _numbers(version)
    for clause in filter(None, specifier.split(",")):
        match = _CLAUSE.match(clause)
        if not match:
            raise ValueError(f"cannot read the version limit {clause!r}")
        if not _compare(have, match.group(1), _numbers(match.group(2))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in match.group().split(".")] if match else [0]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _compare(have: tuple[int, ...], operator: str, limit: tuple[int, ...]) -> bool:
    outcome: dict[str, bool] = {
        ">=": have >= limit,
        "<=": have <= limit,
        "==": have == limit,
        "!=": have != limit,
        "<": have < limit,
        ">": have > limit,
    }
    return outcome[operator]


def pyside_problem(
    version: str | None = None, python: tuple[int, int] = sys.version_info[:2]
) -> str | None:
    """An error message if this version of PySide6 crashes on this version of Python, else None."""
    from importlib import metadata

    if version is None:
        try:
            version = metadata.version("PySide6-Essentials")
        except metadata.PackageNotFoundError:
            return None
    if python >= (3, 12) or _numbers(version) < (6, 12):
        return None
    return (
        f"PySide6 {version} crashes on Python {python[0]}.{python[1]} after a few seconds of "
        "drawing. Use Python 3.12 or newer, or install 'PySide6-Essentials>=6.8,<6.12'."
    )


# ---------------------------------------------------------------- the environment and its stamp


def venv_path(source: Path) -> Path:
    """`.venv` beside the sources, or a folder of the user's when the sources are read-only or in a
    folder that is copied to a cloud, which would upload gigabytes and lock files meanwhile."""
    beside = source / ".venv"
    if read_stamp(beside).get("fingerprint") == fingerprint(source):
        return beside
    cloud = platforms.cloud_folder(source) and not beside.is_dir()
    if not cloud and platforms.writable(beside if beside.is_dir() else source):
        return beside
    key = hashlib.sha256(str(source).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    # Short on Windows, where the longest path in an environment has to fit into 260 characters.
    return _user_data() / ("env" if os.name == "nt" else "environments") / key


def launcher() -> str:
    """How Python is started in a terminal: `python3` opens the Microsoft Store on Windows, and
    only a Python of that store lacks `py`."""
    if sys.platform != "win32":
        return "python3"
    return "python" if platforms.store_python() else "py"


def _user_data() -> Path:
    home = os.environ.get("LORA_STUDIO_HOME")
    if home:
        return Path(home).expanduser() / "data"
    if platforms.store_python():
        return Path.home() / "lora-studio" / "data"
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(base) / "lora-studio"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "lora-studio"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "lora-studio"


def venv_python(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def fingerprint(source: Path) -> str:
    """Hash of what decides which packages get installed."""
    digest = hashlib.sha256(json.dumps(declared(source, ("test",))).encode())
    digest.update((source / "constraints.txt").read_bytes())
    return digest.hexdigest()


def stamp_covers(venv: Path, source: Path, extras: Sequence[str]) -> bool:
    """Whether `venv` was completed for these very files with at least these extras."""
    if not venv_python(venv).exists():
        return False
    stamp = read_stamp(venv)
    if stamp.get("fingerprint") != fingerprint(source):
        return False
    return set(extras) <= set(stamped_extras(venv))


def stamped_extras(venv: Path) -> list[str]:
    """The extras that were installed into `venv`, as far as its stamp says."""
    extras = read_stamp(venv).get("extras")
    return [str(extra) for extra in extras] if isinstance(extras, list) else []


def read_stamp(venv: Path) -> dict[str, object]:
    """The stamp's content; empty when it is missing or damaged."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def torch_settled(venv: Path) -> bool:
    """Whether neither the choice of torch nor the cards have changed since `venv` was completed."""
    from bootstrap import torch_source

    return torch_source.settled(read_stamp(venv))


def write_stamp(
    venv: Path, source: Path, extras: Sequence[str], torch: dict[str, str] | None = None
) -> None:
    """Mark `venv` as complete; written last, and in one piece. `torch` records which build was
    chosen, and for which cards."""
    content: dict[str, object] = {
        "fingerprint": fingerprint(source),
        "extras": sorted(set(extras)),
    }
    if torch is not None:
        content["torch"] = torch
    restore_stamp(venv, content)


def restore_stamp(venv: Path, content: dict[str, object]) -> None:
    """Write the stamp with this content, in one piece."""
    part = venv / f"{STAMP}.{os.getpid()}.part"
    part.write_text(json.dumps(content), encoding="utf-8")
    os.replace(part, venv / STAMP)


def remove_stamp(venv: Path) -> None:
    """Mark `venv` as incomplete."""
    (venv / STAMP).unlink(missing_ok=True)
