"""Parquet files, read in small blocks. A row's line is its number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from studio.formats._source import SourceRow, bad_file

_ROWS_AT_ONCE = 256


def read_parquet(path: Path, limit: int | None) -> Iterator[SourceRow]:
    """The rows of the file; raises ``StudioError`` when it is not sound."""
    import pyarrow as pa
    from pyarrow import parquet

    size = path.stat().st_size
    rows = 50 if limit is not None else _ROWS_AT_ONCE
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            total = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                for data in batch.to_pylist():
                    number += 1
                    yield SourceRow(number, data, size * number // total)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise bad_file(
            path, f"is not a sound Parquet file ({reason})", "Write it again, or use JSONL.",
            "corrupt_parquet",
        ) from error  # fmt: skip
