"""A cache of finished data reports, so that data without trained tokens is refused before Run.

The key is fast to compute: the settings that determine what is trained, and name, size and time of
the files. Errors when reading or writing the cache are ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.graph.schema import Settings, fields_of
from studio.node_settings.dataset import DatasetSettings
from studio.preview.report import DataReport, report_from_json
from studio.system import busy_files, paths
from studio.system.atomic import write_atomic
from studio.system.stored_json import parse, read_regular

FOLDER = "data-reports"
MOST_KEPT = 100
NOTHING_TRAINED = "nothing_trained"
_VERSION = 3
_DECIDING = ("max_length", "long_text", "objective", "objective_settings")
_WITHOUT_SAY = ("lora",)


def report_key(
    train: Settings, upstream: Mapping[str, tuple[str, Settings | None]], project_dir: Path
) -> str:
    """The key of a Train node's data; empty when a node is not set up.

    ``upstream`` holds type and settings of the nodes before it, by id.
    """
    decides = {f.name for f in fields_of(type(train)) if f.meta.group == "Data"} | {*_DECIDING}
    own = {k: v for k, v in train.model_dump(mode="json").items() if k in decides}
    before: list[Any] = []
    for node, (kind, settings) in sorted(upstream.items()):
        if kind in _WITHOUT_SAY:
            continue
        if settings is None:
            return ""
        dump = settings.model_dump(mode="json")
        before.append([node, kind, dump, _stamps(settings, project_dir)])
    text = json.dumps([_VERSION, str(project_dir), own, before], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _stamps(settings: Settings | None, project_dir: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files of a Dataset node."""
    if not isinstance(settings, DatasetSettings):
        return []
    from studio.data.sources import dataset_files

    stamps = []
    for path in dataset_files(settings, project_dir):
        with contextlib.suppress(OSError):
            stat = path.stat()
            stamps.append((str(path), stat.st_size, stat.st_mtime_ns))
    return stamps


def keep(report: DataReport) -> None:
    """Store a finished report; removes the oldest ones beyond the limit."""
    if not report.key or not report.complete:
        return
    folder = paths.cache_dir() / FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{report.key}.json", json.dumps(report.to_json()))
        kept = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
        for path in kept[:-MOST_KEPT]:
            busy_files.remove(path)


def kept(key: str) -> DataReport | None:
    """The stored report for this key."""
    if not key:
        return None
    path = paths.cache_dir() / FOLDER / f"{key}.json"
    try:
        return report_from_json(parse(read_regular(path)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def kept_problems(settings: Settings, context: CheckContext) -> Iterable[Problem]:
    """The problems that a stored report has for running a Train node with these settings."""
    report = kept(report_key(settings, context.upstream, context.project_dir))
    if report is None:
        return
    for finding in report.errors:
        if finding.code == NOTHING_TRAINED:
            yield context.problem(
                f"the data report shows that nothing would be trained: {finding.sentence}",
                hint="Check the rows in the Tokens tab and the fixes in the Report tab.",
                code=NOTHING_TRAINED,
            )
