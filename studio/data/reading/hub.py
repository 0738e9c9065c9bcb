"""Data sets on the hub: the syntax of their names, and which of them are downloaded.

``hub:owner/name``, or ``hub:owner/name:split``; without a split, training and validation files
follow from the dataset itself. A finished download leaves a note with its commit
and files, so that the next use needs no network. This module never accesses the network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio.data.reading.folder import HUB
from studio.data.reading.splits import TRAIN
from studio.errors import StudioError
from studio.node_settings.dataset import AUTOMATIC, DatasetSettings
from studio.system.atomic import write_atomic
from studio.system.paths import cache_dir

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class HubSource:
    """A part of a dataset: ``config`` and ``revision`` are empty for the default. Without a
    ``split`` it is the training and the validation files."""

    repo: str
    config: str
    split: str
    revision: str


@dataclass(frozen=True)
class Fetched:
    """The files of a downloaded part, and the commit it is pinned to.

    ``test`` counts the test files, which are not downloaded.
    """

    files: tuple[Path, ...]
    commit: str
    validation: tuple[Path, ...] = ()
    test: int = 0


def hub_source(settings: DatasetSettings, validation: bool = False) -> HubSource:
    """The dataset of the settings; raises ``StudioError`` for an invalid name."""
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
    if not split and not (settings.split_mode == AUTOMATIC and settings.hub_split == TRAIN):
        split = settings.hub_split
    return HubSource(repo, settings.hub_config, split, settings.hub_revision)


def note_fetched(
    source: HubSource,
    folder: Path,
    names: Sequence[str],
    commit: str,
    validation: Sequence[str] = (),
    test: int = 0,
) -> Fetched:
    """Record a finished download, under the requested revision and under its commit."""
    sizes = [{n: (folder / n).stat().st_size for n in of} for of in (names, validation)]
    text = json.dumps(
        {
            "folder": str(folder),
            "commit": commit,
            "files": sizes[0],
            "validation": sizes[1],
            "test": test,
        }
    )
    for revision in {source.revision or "main", commit}:
        note = _note(source, revision)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, text)
    return Fetched(
        tuple(folder / n for n in names), commit, tuple(folder / n for n in validation), test
    )


def fetched(source: HubSource) -> Fetched | None:
    """The files of a completely downloaded part, or ``None``."""
    try:
        note: Mapping[str, Any] = json.loads(
            _note(source, source.revision or "main").read_text(encoding="utf-8")
        )
        folder, files, validation = Path(note["folder"]), note["files"], note.get("validation", {})
        if not files or any(
            (folder / n).stat().st_size != size for n, size in {**files, **validation}.items()
        ):
            return None
        return Fetched(
            tuple(folder / n for n in files),
            str(note["commit"]),
            tuple(folder / n for n in validation),
            int(note.get("test", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fetched_before(source: HubSource) -> Fetched | None:
    """Like ``fetched``, and if only the training split is there, that one: all that earlier versions
    downloaded."""
    return fetched(source) or (None if source.split else fetched(replace(source, split=TRAIN)))


def _note(source: HubSource, revision: str) -> Path:
    part = json.dumps({**asdict(source), "revision": revision}, sort_keys=True)
    name = hashlib.sha256(part.encode()).hexdigest()[:16]
    return cache_dir() / "hub" / "datasets" / source.repo.replace("/", "--") / f"{name}.json"
