"""The Dataset step: files become canonical rows in Arrow, split into train and validation.

Rows are read once as a stream and written to one data set. The split then copies them, so that
memory stays bounded for every kind of split. Nothing is tokenized here, because that depends on the
model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.data.canonical import content_hash, to_arrow
from studio.data.check import options_of
from studio.data.detect import Chosen, format_of
from studio.data.reading.archive import HASHED_AT_ONCE, refuse_absent, sha256_of, stat_of
from studio.data.reading.folder import is_hub
from studio.data.reading.source import (
    ReadOptions,
)
from studio.data.sources import Sources, describe_sources, sources_of
from studio.data.used_rows import UsedRow, UsedRows, completed, refuse_no_rows, rows_for_format
from studio.data.window import count_test_rows
from studio.graph.context import StepContext
from studio.node_settings.dataset import DatasetSettings
from studio.system import disk
from studio.system.number_text import percent
from studio.training.data.arrow import RowWriter
from studio.training.data.features import FEATURES
from studio.training.data.row_counts import RowCounts
from studio.training.data.split import split_rows
from studio.values import DatasetValue

_ROWS_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000
_LARGE = 50_000_000  # bytes; hashing a larger file is shown as a phase


def prepare_rows(context: StepContext, settings: DatasetSettings) -> DatasetValue:
    """Read, check, convert and split the files; raises ``StudioError`` with file and line."""
    with disk.explain_errors("the rows", context.folder):
        return _prepare(context, settings)


def _prepare(context: StepContext, settings: DatasetSettings) -> DatasetValue:
    counted = RowCounts()
    sources = _sources(context, settings)
    own, held_out, settings = sources.train, sources.validation, sources.settings
    files = (*own, *held_out)
    options = replace(options_of(settings), note=counted.notes.append)
    rows = rows_for_format(own[0], settings)
    chosen = format_of(settings, own[0], rows, context.registry.variants["format"])
    chosen = completed(chosen, settings, own, held_out)
    if chosen.reason:
        context.notice(
            f"{own[0].name} was read as “{chosen.variant.title}” "
            f"({percent(chosen.confidence)} certain): {chosen.reason}.",
            "If this is wrong, choose another format in the Dataset node.",
            "info",
        )
    if chosen.remark:
        context.notice(chosen.remark, level="info")
    digest = _digest(files, context)
    name = _fingerprint(f"{digest} {len(own)}" if held_out else digest, settings)
    context.phase("read", f"Reading {_named(files)}")
    reading = _Reading(context, settings, chosen, options, counted)
    _write_all(reading, own, held_out, context.folder / "rows", name)
    counted.tell(context)
    unused = counted.dropped + counted.left_out
    refuse_no_rows(files[0], counted.rows, counted.first_error, unused)
    train, validation = split_rows(context, settings, counted, name)
    test = count_test_rows(sources, chosen)
    for remark in describe_sources(sources, train, validation, test):
        context.notice(remark.sentence, remark.hint, remark.level)
    context.artifact("dataset", context.folder, rows=train + validation, format=chosen.variant.id)
    return DatasetValue(
        path=str(context.folder),
        format=chosen.variant.id,
        shape=counted.shape,
        skipped=counted.skipped,
        train_rows=train,
        validation_rows=validation,
        sha256=digest,
        sources=[str(p.resolve()) for p in files],
    )


def _sources(context: StepContext, settings: DatasetSettings) -> Sources:
    """The files to read; data sets on the hub are downloaded first."""
    for validation in (False, True) if settings.split_mode == "file" else (False,):
        if is_hub(settings.validation_source if validation else settings.source):
            from studio.training.fetch.hub_data import fetch_data

            fetch_data(context, settings, validation=validation)
    sources = sources_of(settings, context.project_dir)
    for remark in sources.remarks:
        context.notice(remark.sentence, remark.hint, remark.level)
    return sources


def _named(files: tuple[Path, ...]) -> str:
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"


def _digest(files: tuple[Path, ...], context: StepContext) -> str:
    """The sha256 of a file, or the sha256 of the digests of several files."""
    found = []
    for path in files:
        refuse_absent(path)
    total = sum(stat_of(p).size for p in files)
    done = 0

    def tick() -> None:
        nonlocal done
        done = min(done + HASHED_AT_ONCE, total)
        context.progress("hash", round(done / 1e6, 3), round(total / 1e6, 3), "MB")

    if total > _LARGE:
        context.phase("hash", f"Identifying {_named(files)}")
    for path in files:
        found.append(sha256_of(path, tick if total > _LARGE else context.check))
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _fingerprint(digest: str, settings: DatasetSettings) -> str:
    """Identifies the prepared rows: depends on the files and the settings."""
    text = digest + json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Reading:
    """The rows of all files in canonical form; their splits are recorded in the counts."""

    def __init__(
        self,
        context: StepContext,
        settings: DatasetSettings,
        chosen: Chosen,
        options: ReadOptions,
        counted: RowCounts,
    ) -> None:
        self.context = context
        self.counted = counted
        self._settings = settings
        self.used = UsedRows(settings, chosen, options)

    def rows(self, path: Path, held_out: bool) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """Yields pairs: the row, or ``None`` if it is excluded, and the number of bytes read of the
        file.
        """
        source = str(path.resolve())
        for used in self.used.rows(path, held_out):
            self.counted.seen(used.row)
            yield self._stored(used, path, source), used.row.offset

    def _stored(self, used: UsedRow, path: Path, source: str) -> dict[str, Any] | None:
        if used.error is not None:
            if self._settings.on_bad_rows == "stop":
                raise used.error
            self.counted.bad(used.error, path, used.row.line)
            return None
        if used.canonical is None:
            self.counted.dropped += used.dropped
            self.counted.left_out += not used.dropped
            return None
        self.counted.unused(used.unused, used.row)
        stored = to_arrow({**used.canonical, "line": used.row.line, "source": source})
        self.counted.keep(used.canonical, used.side == "validation", used.ordinal)
        if self.used.split.compares_content:
            self.counted.hashes.append(content_hash(stored))
        return stored


def _write_all(
    reading: _Reading, own: tuple[Path, ...], held_out: tuple[Path, ...], target: Path, name: str
) -> None:
    """Write every kept row in canonical form."""
    files = [(p, False) for p in own] + [(p, True) for p in held_out]
    sizes = [stat_of(p).size / 1e6 for p, _ in files]
    total = sum(sizes)
    with RowWriter(target, FEATURES, name) as writer:
        for index, (path, is_held_out) in enumerate(files):
            before = sum(sizes[:index])
            if not is_held_out and reading.used.full():
                continue
            for batch, done in _batches(reading, path, is_held_out):
                if batch:
                    writer.write({n: [row[n] for row in batch] for n in FEATURES})
                so_far = min(before + done / 1e6, total)
                reading.context.progress("read", round(so_far, 3), round(total, 3), "MB")
    missing = reading.used.unused_drops()
    if missing:
        reading.counted.notes.append(f"Some of the excluded rows do not exist: {missing}.")


def _batches(
    reading: _Reading, path: Path, held_out: bool
) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Rows in small batches.

    Batches may be empty where many rows are excluded, so that a stop takes effect.
    """
    batch: list[dict[str, Any]] = []
    started = done = seen = 0
    for row, done in reading.rows(path, held_out):
        seen += 1
        if row is not None:
            batch.append(row)
        if seen >= _ROWS_AT_ONCE or done - started >= _BYTES_AT_ONCE:
            yield batch, done
            batch, started, seen = [], done, 0
    yield batch, done
