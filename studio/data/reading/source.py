"""A row of a file, the options for reading, and the errors that name file and line.

Used by every reader. Independent of file types and of what a row means.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio.errors import StudioError
from studio.node_settings.dataset import Encoding

Documents = Literal["file", "paragraph", "line"]
RowUnit = Literal["auto", "example", "message"]


@dataclass(frozen=True)
class SourceRow:
    """A row of a file.

    ``line`` is where it starts (for Parquet and Arrow: its number), ``offset`` the bytes of the
    file on disk processed after it, ``start`` its offset in the opened text. A bad row has an
    ``error`` and no data; with ``ends_file`` the rest of its file cannot be read either. ``remark``
    names what was tolerated in it, such as ``duplicate_key``.
    """

    line: int
    data: dict[str, Any]
    offset: int
    path: Path = Path()
    error: StudioError | None = None
    start: int = 0
    remark: str = ""
    ends_file: bool = False


class Note(str):
    """A sentence about something unusual in a file that was tolerated.

    With a ``code`` it is also a warning before a run, beside the setting ``field``.
    """

    code: str
    field: str
    hint: str

    def __new__(cls, sentence: str, code: str = "", field: str = "source", hint: str = "") -> Note:
        made = super().__new__(cls, sentence)
        made.code, made.field, made.hint = code, field, hint
        return made


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files.

    ``limit`` ends a quick check after about that many bytes; ``note`` is called with a sentence, or
    a ``Note``, about anything unusual that was tolerated.
    """

    encoding: Encoding = "auto"
    documents: Documents = "file"
    row_unit: RowUnit = "auto"
    table: str = ""
    limit: int | None = None
    note: Callable[[str], None] = field(default=lambda sentence: None, compare=False)


Reader = Callable[[Path, ReadOptions], Iterator[SourceRow]]


def bad_file(
    path: Path, what: str, hint: str, code: str, *, line: int | None = None
) -> StudioError:
    """An error about a file; ``what`` is a clause about the file, or about the line if given."""
    place = f"line {line} of {path.name}" if line is not None else path.name
    return StudioError(
        f"{place} {what}.",
        title="The data cannot be read",
        hint=hint,
        field="source",
        code=code,
        file=str(path),
        line=line,
    )


def bad_row(row_line: int, path: Path, error: StudioError, done: int, start: int = 0) -> SourceRow:
    """A row that could not be read."""
    return SourceRow(row_line, {}, done, path, error, start)


def unreadable(path: Path, error: OSError) -> StudioError:
    """The error for a file without read permission."""
    reason = error.strerror or str(error)
    return bad_file(
        path, f"cannot be read: {reason}", "Check the file and its permissions.", "unreadable_file"
    )


def rest_lost(error: StudioError, path: Path, row: int) -> StudioError:
    """The error for damage after which no row of the file can be found; ``row`` is the first lost one."""
    if row == 1:
        return error
    located = copy.copy(error)
    located.sentence = f"{error.sentence.rstrip('.')}; row {row} of {path.name} and all following rows cannot be read."
    located.args = (located.sentence,)
    located.hint = f"{error.hint} Skipping invalid rows does not help here."
    return located


def broken_packed(path: Path, line: int) -> StudioError:
    """The error for compressed data that is truncated or followed by other data."""
    place = f"after line {line}" if line else "before its first row ends"
    kinds = {".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
    kind = kinds.get(path.suffix.lower(), "gzip")
    return bad_file(
        path,
        f"is damaged: its {kind} data is cut off, or followed by other data, {place}",
        "Download or copy it again, or unpack it and use the complete rows.",
        f"corrupt_{kind}",
    )


def lost_row(error: StudioError, path: Path, row: int) -> SourceRow:
    """The last row of a file that cannot be read to its end."""
    located = rest_lost(error, path, row)
    return SourceRow(error.line or 0, {}, 0, path, located, ends_file=True)
