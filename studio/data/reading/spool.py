"""Rows of files without random access, such as workbooks, as JSON lines in a temporary file.

A view then finds any row by its number, and memory stays bounded.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from studio.data.reading.input import Input, lines_of
from studio.data.reading.source import Reader, ReadOptions, SourceRow
from studio.errors import StudioError

KINDS = frozenset({"sheet", "document"})
_ERROR = ("sentence", "title", "hint", "field", "code", "file", "line")


def open_spooled(path: Path, options: ReadOptions, reader: Reader, stack: ExitStack) -> Input:
    """All rows of a file, one per line; closed with ``stack``."""
    copy = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115
    damage: StudioError | None = None
    try:
        for row in reader(path, options):
            copy.write(_written(row))
    except StudioError as error:
        if not copy.tell():
            raise
        damage = error
    copy.seek(0)
    return Input(path, copy, copy, plain=True, damage=damage, copied=True)


def rows_from(source: Input, start: int | None, number: int) -> Iterator[SourceRow]:
    """The rows from an offset in the spooled text, with ``number`` lines before it."""
    for _, raw, place in lines_of(source, start=start, number=number):
        found = json.loads(raw)
        error = found.get("error")
        yield SourceRow(
            found["line"],
            found.get("data") or {},
            found["offset"],
            source.path,
            None if error is None else StudioError(**error),
            place,
        )


def _written(row: SourceRow) -> bytes:
    found = {"line": row.line, "offset": row.offset, "data": row.data}
    if row.error is not None:
        found["error"] = {name: getattr(row.error, name) for name in _ERROR}
    return json.dumps(found).encode() + b"\n"
