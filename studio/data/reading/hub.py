"""Data sets on the hub: how a source names one, and which of them are on this machine.

``hub:owner/name``, or ``hub:owner/name:split``. A finished download leaves a note with its commit
and files, so that no network is needed the next time. It must not ask any network.
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
    """A part of a data set: ``config`` and ``revision`` are empty for the default ones."""

    repo: str
    config: str
    split: str
    revision: str


@dataclass(frozen=True)
class Fetched:
    """Where a part lies on this machine, and the commit it is pinned to."""

    files: tuple[Path, ...]
    commit: str


def hub_source(settings: DatasetSettings, validation: bool = False) -> HubSource:
    """What the settings name; raises ``StudioError`` when it cannot be a name on the hub."""
    field = "validation_source" if validation else "source"
    text = str(getattr(settings, field)).strip().removeprefix(HUB).strip()
    repo, _, split = text.partition(":")
    if not _NAME.fullmatch(repo):
        raise StudioError(
            f"“{repo}” cannot be the name of a data set on the hub.",
            hint="Write it as hub:owner/name, as its page says.",
            field=field,
            code="bad_hub_name",
        )
    return HubSource(repo, settings.hub_config, split or settings.hub_split, settings.hub_revision)


def note_fetched(source: HubSource, folder: Path, names: list[str], commit: str) -> Fetched:
    """Remember a finished download, under the revision it was asked for and under its commit."""
    files = {n: (folder / n).stat().st_size for n in names}
    text = json.dumps({"folder": str(folder), "commit": commit, "files": files})
    for revision in {source.revision or "main", commit}:
        note = _note(source, revision)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(text, encoding="utf-8")
    return Fetched(tuple(folder / n for n in names), commit)


def fetched(source: HubSource) -> Fetched | None:
    """The files of a part that is whole on this machine, or ``None``."""
    try:
        note: Mapping[str, object] = json.loads(
            _note(source, source.revision or "main").read_text(encoding="utf-8")
        )
        folder, files = Path(str(note["folder"])), note["files"]
        if not isinstance(files, dict) or not files:
            return None
        whole = all((folder / n).stat().st_size == size for n, size in files.items())
        return Fetched(tuple(folder / n for n in files), str(note["commit"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _note(source: HubSource, revision: str) -> Path:
    part = json.dumps({**asdict(source), "revision": revision}, sort_keys=True)
    name = hashlib.sha256(part.encode()).hexdigest()[:16]
    return cache_dir() / "hub" / "datasets" / source.repo.replace("/", "--") / f"{name}.json"
