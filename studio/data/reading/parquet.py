"""Parquet files, read in small blocks. The line of a row is its number.

Row groups are read one by one, so that damage only affects the rest of its group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from studio.data.reading.archive import local_file
from studio.data.reading.arrow_rows import ArrowRows
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.errors import StudioError

ROWS_AT_ONCE = 256


def read_parquet(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of the file; raises ``StudioError`` when its metadata is damaged."""
    from pyarrow import parquet

    at_once = 50 if options.limit is not None else ROWS_AT_ONCE
    with ExitStack() as stack:
        local = stack.enter_context(local_file(path))
        size = local.stat().st_size
        with sound(path, "Parquet"):
            file = stack.enter_context(parquet.ParquetFile(local))
        rows, total, number = ArrowRows(file.schema_arrow), file.metadata.num_rows, 0
        for note in rows.notes(path.name):
            options.note(note)
        for group in range(file.num_row_groups):
            last = number + file.metadata.row_group(group).num_rows
            try:
                with sound(path, "Parquet"):
                    for batch in file.iter_batches(at_once, [group], use_threads=False):
                        for data in rows.of(batch):
                            number += 1
                            yield SourceRow(number, data, size * number // total, path)
            except StudioError as error:
                for bad in range(number + 1, last + 1):
                    yield damaged_row(path, bad, error, size * bad // total)
                number = last


def damaged_row(path: Path, number: int, error: StudioError, done: int = 0) -> SourceRow:
    """A bad row for the unreadable rest of a row group."""
    located = bad_file(
        path,
        f"is in a damaged part of the file ({_reason(error.__cause__ or error)})",
        "Create the file again, or skip the rows that cannot be read.",
        "corrupt_parquet",
        line=number,
    )
    return bad_row(number, path, located, done)


@contextmanager
def sound(path: Path, kind: str) -> Iterator[None]:
    """Turn pyarrow's errors about a damaged file into a ``StudioError``."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise bad_file(
            path,
            f"is not a valid {kind} file ({_reason(error)})",
            "Create it again, or use JSONL.",
            f"corrupt_{kind.lower()}",
        ) from error


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or ["no reason"])[0].rstrip(".")
