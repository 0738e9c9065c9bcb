"""Parquet files, read in small blocks. A row's line is its number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.formats._class_labels import class_names, with_names
from studio.formats._source import ReadOptions, SourceRow, bad_file

_ROWS_AT_ONCE = 256


def read_parquet(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of the file; raises ``StudioError`` when it is not sound."""
    from pyarrow import parquet

    size = path.stat().st_size
    rows = 50 if options.limit is not None else _ROWS_AT_ONCE
    number = 0
    with sound(path, "Parquet"), parquet.ParquetFile(path) as file:
        total = max(1, file.metadata.num_rows)
        names = class_names(file.schema_arrow)
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            for data in with_names(batch.to_pylist(), names):
                number += 1
                yield SourceRow(number, data, size * number // total, path)


@contextmanager
def sound(path: Path, kind: str) -> Iterator[None]:
    """Turn what pyarrow says about a damaged file into a ``StudioError``."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or ["no reason"])[0].rstrip(".")
        raise bad_file(
            path, f"is not a sound {kind} file ({reason})", "Write it again, or use JSONL.",
            f"corrupt_{kind.lower()}",
        ) from error  # fmt: skip
