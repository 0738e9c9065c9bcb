"""The Dataset step: a file becomes canonical rows in Arrow, split into train and validation.

Rows are read once as a stream and written to one data set; the split then copies them by a seeded
rank, so that memory stays bounded and the shares are exact. It must not tokenize: that depends on
the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset

from studio import disk
from studio.errors import StudioError
from studio.formats._check import first_rows, source_path
from studio.formats._detect import Chosen, choose_format
from studio.formats._source import bad_file, read_rows, sha256_of
from studio.runs.context import StepContext
from studio.training.arrow import RowWriter, open_rows
from studio.training.canonical import FEATURES, to_arrow
from studio.values import DatasetValue

if TYPE_CHECKING:
    from studio.nodes.dataset import DatasetSettings

_ROWS_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000


def prepare_rows(context: StepContext, settings: DatasetSettings) -> DatasetValue:
    """Read, check, convert and split the file; raises ``StudioError`` with file and line."""
    try:
        with disk.told(context.title, "the rows", context.folder):
            return _prepare(context, settings)
    except StudioError as error:
        if not error.sentence.startswith(context.title):
            error.sentence = f"{context.title}: {error.sentence}"
            error.args = (error.sentence,)
        raise


def _prepare(context: StepContext, settings: DatasetSettings) -> DatasetValue:
    if not settings.source.strip():
        raise StudioError("no file is chosen.", field="source", code="no_file")
    path = source_path(settings.source, context.project_dir)
    context.phase("read", f"Reading {path.name}")
    variants = context.registry.variants["format"]
    chosen = choose_format(path, settings.format, settings.format_settings, first_rows(path), variants)  # fmt: skip
    if chosen.reason:
        context.notice(
            f"{path.name} was read as “{chosen.variant.title}” ({chosen.confidence:.0%} sure): "
            f"{chosen.reason}.", "Choose another format in the Dataset node if that is wrong.", "info",
        )  # fmt: skip
    digest = sha256_of(path, context.check)
    everything = context.folder / "rows"
    count = _write_all(context, path, chosen, settings.limit, everything, digest)
    _refuse_too_few(path, count, settings.validation_fraction)
    held_out = _split(context, everything, count, settings, digest)
    context.artifact("dataset", context.folder, rows=count, format=chosen.variant.id)
    return DatasetValue(
        path=str(context.folder), format=chosen.variant.id, train_rows=count - held_out,
        validation_rows=held_out, sha256=digest, sources=[str(path.resolve())],
    )  # fmt: skip


def _write_all(
    context: StepContext, path: Path, chosen: Chosen, limit: int, target: Path, digest: str
) -> int:
    """Every row in canonical form; returns how many there are."""
    size = path.stat().st_size / 1e6
    with RowWriter(target, FEATURES, digest[:16]) as writer:
        for batch, done in _batches(path, chosen, limit, context.check):
            writer.write({n: [row[n] for row in batch] for n in FEATURES})
            context.progress("read", round(min(done / 1e6, size), 3), round(size, 3), "MB")
    return writer.rows


def _batches(
    path: Path, chosen: Chosen, limit: int, check: Callable[[], None]
) -> Iterator[tuple[list[dict[str, Any]], int]]:
    batch: list[dict[str, Any]] = []
    started = done = 0
    for number, row in enumerate(read_rows(path), start=1):
        row_data = chosen.convert(row, path)
        batch.append(to_arrow({**row_data, "line": row.line, "source": str(path.resolve())}))
        done = row.offset
        if len(batch) >= _ROWS_AT_ONCE or done - started >= _BYTES_AT_ONCE:
            yield batch, done
            batch, started = [], done
            check()
        if number == limit:
            break
    if batch:
        yield batch, done


def _refuse_too_few(path: Path, count: int, fraction: float) -> None:
    if count == 0:
        raise bad_file(path, "holds no rows", "Choose a file with rows in it.", "no_rows")
    if count == 1 and fraction > 0:
        error = bad_file(
            path, "holds one row, too few to keep a share of them for validation",
            "Set the validation share to 0, or add rows.", "too_few_rows",
        )  # fmt: skip
        error.field = "validation_fraction"
        raise error


def _split(
    context: StepContext, everything: Path, count: int, settings: DatasetSettings, digest: str
) -> int:
    """Copy the rows into ``train`` and ``validation``; returns the number of validation rows."""
    held_out = held_out_count(count, settings.validation_fraction)
    if held_out == 0:
        everything.rename(context.folder / "train")
        return 0
    chosen = held_out_mask(count, held_out, settings.seed)
    rows = open_rows(everything)
    for name, mask in (("train", ~chosen), ("validation", chosen)):
        fingerprint = f"{digest[:16]}-{name}-{settings.seed}-{held_out}"
        with RowWriter(context.folder / name, FEATURES, fingerprint) as writer:
            _copy(context, rows, mask, writer)
    del rows
    shutil.rmtree(everything)
    return held_out


def _copy(context: StepContext, rows: Dataset, mask: Any, writer: RowWriter) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        context.check()
        table = rows.data.slice(start, _ROWS_AT_ONCE).table
        writer.write_table(table.filter(mask[start : start + len(table)]))


def held_out_count(count: int, fraction: float) -> int:
    """How many of ``count`` rows go to validation: the nearest share, with one row on each side."""
    return min(max(round(count * fraction), 1), count - 1) if fraction > 0 else 0


def held_out_mask(count: int, held_out: int, seed: int) -> Any:
    """Which rows go to validation: those of lowest rank. A row's rank depends on seed and index
    alone, so rows that are appended to the file hardly move the others."""
    mask = np.zeros(count, dtype=bool)
    mask[np.argsort(_ranks(count, seed), kind="stable")[:held_out]] = True
    return mask


def _ranks(count: int, seed: int) -> Any:
    """A well mixed 64-bit number per index: the finalizer of SplitMix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(seed) * np.uint64(0x632BE59BD9B4E019)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
