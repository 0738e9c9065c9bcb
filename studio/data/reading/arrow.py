"""Arrow IPC files and streams, as written by the ``datasets`` library and others.

The line of a row is its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.data.reading.archive import local_file
from studio.data.reading.arrow_rows import ArrowRows
from studio.data.reading.parquet import sound
from studio.data.reading.source import ReadOptions, SourceRow, bad_file

if TYPE_CHECKING:
    import pyarrow as pa

_FILE_MARK = b"ARROW1"
_ROWS_AT_ONCE = 256


def read_arrow(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of the file; raises ``StudioError`` when it is damaged."""
    number = 0
    rows: ArrowRows | None = None
    with local_file(path) as file, sound(path, "Arrow"), open_arrow(path, file) as source:
        size = file.stat().st_size
        for batch in batches_in(source):
            if rows is None:
                rows = ArrowRows(batch.schema)
                for note in rows.notes(path.name):
                    options.note(note)
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for data in rows.of(batch.slice(start, _ROWS_AT_ONCE)):
                    number += 1
                    done = source.tell() if hasattr(source, "tell") else size
                    yield SourceRow(number, data, min(done, size), path)


@contextmanager
def open_arrow(path: Path, local: Path) -> Iterator[Any]:
    """The opened file, read as a byte stream: mapped pages would count as our memory."""
    import pyarrow as pa

    with local.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"FEA1"):
        raise bad_file(
            path,
            "is a Feather file of version 1",
            "Convert it to Feather 2 or Parquet.",
            "old_feather",
        )
    with pa.OSFile(str(local), "rb") as source:
        yield source


def batches_in(source: Any) -> Iterator[pa.RecordBatch]:
    """The batches of an IPC file, which has a table of batches, or of a stream."""
    import pyarrow as pa

    head = source.read(6)
    source.seek(0)
    if head == _FILE_MARK:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
    else:
        yield from pa.ipc.open_stream(source)
