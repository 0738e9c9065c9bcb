"""Records of completed steps, and the search for one to reuse.

A record is written after a step's result is in its final place, so that the remains of a crash are
never reused. It has a hash of its own content; those of earlier versions have none. A hit is a
record of the same fingerprint, in any run beside this one, whose files are all still there. It must
not delete or change anything except its own record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from studio.errors import StudioError
from studio.graph.project import json_text
from studio.runs.folder import RunFolder, read_json
from studio.runs.plan import Step
from studio.system.atomic import write_atomic
from studio.system.stored_json import with_hash, without_hash
from studio.values import check_value

_SLACK_S = 2.0


@dataclass(frozen=True)
class Record:
    """The result of a completed step. ``files`` lists (path, bytes, modification time in ns);
    ``evaluations`` and ``checks`` are its reported measurements, which are reported again when it is reused. Only
    its own run reuses a record that is not ``reusable``: it is not the result of its settings."""

    node: str
    type: str
    fingerprint: str
    outputs: Mapping[str, Any]
    artifacts: tuple[Mapping[str, Any], ...]
    files: tuple[tuple[str, int, int], ...]
    seconds: float
    evaluations: tuple[Mapping[str, Any], ...] = ()
    reusable: bool = True
    checks: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data."""
        return {
            "node": self.node,
            "type": self.type,
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
            "outputs": dict(self.outputs),
            "artifacts": [dict(a) for a in self.artifacts],
            "files": [list(f) for f in self.files],
            "evaluations": [dict(e) for e in self.evaluations],
            "reusable": self.reusable,
            "checks": [dict(c) for c in self.checks],
        }


@dataclass(frozen=True)
class Hit:
    """The result of a search: ``ready`` for reuse, ``gone`` (its files were removed), or
    ``none``."""

    kind: Literal["ready", "gone", "none"]
    record: Record | None = None


def write_record(folder: RunFolder, record: Record) -> None:
    """Record a completed step, so that later runs can reuse it."""
    folder.steps.mkdir(exist_ok=True)
    path = folder.steps / f"{record.fingerprint}.json"
    write_atomic(path, json_text(with_hash(record.to_json())))


def find_hit(folder: RunFolder, step: Step) -> Hit:
    """The newest usable record of a step's fingerprint, this run's own first."""
    best = Hit("none")
    for path in _record_paths(folder, step.fingerprint):
        record = _read(path)
        if record is None or (record.type, record.fingerprint) != (step.type, step.fingerprint):
            continue
        if not record.reusable and path.parent.parent != folder.path:
            continue
        if _intact(record, path.parent.parent):
            return Hit("ready", record)
        best = Hit("gone", record)
    return best


def _record_paths(folder: RunFolder, fingerprint: str) -> Iterator[Path]:
    name = Path("steps") / f"{fingerprint}.json"
    own = folder.path / name
    if own.is_file():
        yield own
    try:
        siblings = sorted(folder.path.parent.iterdir(), reverse=True)
    except OSError:
        return
    for run in siblings:
        if run != folder.path and (run / name).is_file():
            yield run / name


def _read(path: Path) -> Record | None:
    try:
        data, _ = without_hash(read_json(path))
        for output in dict(data["outputs"]).values():
            check_value(output)
        return Record(
            str(data["node"]),
            str(data["type"]),
            str(data["fingerprint"]),
            dict(data["outputs"]),
            tuple(dict(a) for a in data["artifacts"]),
            tuple((str(p), int(size), int(mtime)) for p, size, mtime in data["files"]),
            float(data["seconds"]),
            tuple(dict(e) for e in data.get("evaluations", ())),
            bool(data.get("reusable", True)),
            tuple(dict(c) for c in data.get("checks", ())),
        )
    except (StudioError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _intact(record: Record, run: Path) -> bool:
    """Whether every file is as it was. Outside the run folder others may write (two exports to
    one folder), so there the modification time counts too."""
    for path, size, mtime_ns in record.files:
        try:
            stat = os.stat(path)
        except (OSError, ValueError):
            return False
        if stat.st_size != size:
            return False
        if stat.st_mtime_ns != mtime_ns and not Path(path).is_relative_to(run):
            return False
    return True


def files_of(
    final: Path, outputs: Mapping[str, Any], artifacts: list[dict[str, Any]], started: float
) -> tuple[tuple[str, int, int], ...]:
    """Every file that a step's result consists of, inside the run folder and outside."""
    places = {final} if final.exists() else set()
    named = [a.get("path") for a in artifacts] + [
        v.get("path") for v in outputs.values() if isinstance(v, Mapping)
    ]
    for path in (Path(p) for p in named if isinstance(p, str)):
        if path.is_absolute() and path.exists() and not path.is_relative_to(final):
            places.add(path)
    found = [f for p in sorted(places) for f in _files_in(p, p != final, started)]
    return tuple(sorted(set(found)))


def _files_in(place: Path, outside: bool, started: float) -> list[tuple[str, int, int]]:
    """The files of a place. An outside folder may hold foreign files: only those that this step
    wrote count there, or all when it wrote none (a model that was in the cache already)."""
    paths = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    rows = [(str(p), s.st_size, s.st_mtime_ns) for p in paths for s in (p.stat(),)]
    if outside:
        own = [r for r in rows if r[2] / 1e9 >= started - _SLACK_S]
        return own or rows
    return rows
