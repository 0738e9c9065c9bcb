"""Data sets on the hub: the syntax of their names, and which of them are downloaded.

``hub:owner/name``, or ``hub:owner/name:split``. A finished download leaves a note with its commit
and files, so that the next use needs no network. This module never accesses the network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.data.reading.folder import HUB
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.system.paths import cache_dir

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class HubSource:
    """A part of a data set: ``config`` and ``revision`` are empty for the default."""

    repo: str
    config: str
    split: str
    revision: str


@dataclass(frozen=True)
class Fetched:
    """The files of a downloaded part, and the commit it is pinned to."""

    files: tuple[Path, ...]
    commit: str


def hub_source(settings: DatasetSettings, validation: bool = False) -> HubSource:
    """The data set of the settings; raises ``StudioError`` for an invalid name."""
    field = "validation_source" if validation else "source"
    text = str(getattr(settings, field)).strip().removeprefix(HUB).strip()
    repo, _, split = text.partition(":")
    if not _NAME.fullmatch(repo):
        raise StudioError(
            f"“{repo}” is not a valid name of a dataset on the Hub.",
            hint="Write it as hub:owner/name, as shown on its page.",
            field=field,
            code="bad_hub_name",
        )
    return HubSource(repo, settings.hub_config, split or settings.hub_split, settings.hub_revision)


def note_fetched(source: HubSource, folder: Path, names: list[str], commit: str) -> Fetched:
    """Record a finished download, under the requested revision and under its commit."""
    files = {n: (folder / n).stat().st_size for n in names}
    text = json.dumps({"folder": str(folder), "commit": commit, "files": files})
    for revision in {source.revision or "main", commit}:
        note = _note(source, revision)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="utf-8")
    return Fetched(tuple(folder / n for n in names), commit)


def fetched(source: HubSource) -> Fetched | None:
    """The files of a completely downloaded part, or ``None``."""
    try:
        note: Mapping[str, object] = json.loads(
            _note(source, source.revision or "main").read_text(encoding="utf-8")
        )
        folder, files = Path(str(note["folder"])), note["files"]
        if not isinstance(files, dict) or not files:
            return None
        complete = all((folder / n).stat().st_size == size for n, size in files.items())
        return Fetched(tuple(folder / n for n in files), str(note["commit"])) if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _note(source: HubSource, revision: str) -> Path:
    part = json.dumps({**asdict(source), "revision": revision}, sort_keys=True)
    name = hashlib.sha256(part.encode()).hexdigest()[:16]
    return cache_dir() / "hub" / "datasets" / source.repo.replace("/", "--") / f"{name}.json"
