"""Files of examples: opened, checked and read row by row with their true line numbers.

Why not the datasets library: it names the wrong line of a corrupt file, and it needs torch-sized
imports. Memory stays at one row (or one block of Parquet). Nothing here knows what a row means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from studio.errors import StudioError

QUICK_ROWS = 50
QUICK_BYTES = 256 * 1024
_BLOCK = 1 << 20
_OTHER_ENCODINGS = {
    b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip-compressed", b"PK": "a ZIP archive",
}  # fmt: skip


@dataclass(frozen=True)
class SourceRow:
    """A row as it stands in the file. ``line`` is where it starts (for Parquet: its number),
    ``offset`` how many bytes of the file are done with it."""

    line: int
    data: dict[str, Any]
    offset: int


Reader = Callable[[Path, int | None], Iterator[SourceRow]]


def bad_file(
    path: Path, what: str, hint: str, code: str, *, line: int | None = None
) -> StudioError:
    """An error about a file: ``what`` is a clause whose subject is the file, or the line if given."""
    place = f"line {line} of {path.name}" if line is not None else path.name
    return StudioError(
        f"{place} {what}.", title="The data cannot be read", hint=hint, field="source", code=code,
        file=str(path), line=line,
    )  # fmt: skip


def check_file(path: Path) -> Reader:
    """The reader for a file that is there, not empty and of a known kind; raises ``StudioError``."""
    from studio.formats._csv import read_csv
    from studio.formats._json import read_json
    from studio.formats._jsonl import read_jsonl
    from studio.formats._parquet import read_parquet

    readers: dict[str, Reader] = {
        ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".json": read_json, ".csv": read_csv,
        ".tsv": read_csv, ".parquet": read_parquet,
    }  # fmt: skip
    _refuse_absent(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        kind = f"ends in “{path.suffix}”" if path.suffix else "has no ending such as .jsonl"
        raise bad_file(
            path, f"{kind}, which is not a known kind of file",
            "Use a .jsonl, .json, .csv, .tsv or .parquet file.", "unknown_suffix",
        )  # fmt: skip
    if reader is not read_parquet:
        _refuse_foreign(path)
    return reader


def _refuse_absent(path: Path) -> None:
    try:
        if path.is_dir():
            raise bad_file(path, "is a folder", "Choose one file in it.", "folder_not_file")
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise bad_file(
            path, f"does not exist (looked in {path.parent})", "Choose the file again.",
            "missing_file",
        ) from error  # fmt: skip
    except OSError as error:
        raise unreadable(path, error) from error
    if size == 0:
        raise bad_file(path, "is empty", "Choose a file with rows in it.", "empty_file")


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise unreadable(path, error) from error
    kind = next((k for mark, k in _OTHER_ENCODINGS.items() if start.startswith(mark)), None)
    if kind is not None:
        raise bad_file(
            path, f"is {kind}, not UTF-8 text",
            "Save it as UTF-8, or unpack it first.", "wrong_encoding",
        )  # fmt: skip


def unreadable(path: Path, error: OSError) -> StudioError:
    """The error for a file that the system does not let us read."""
    reason = error.strerror or str(error)
    return bad_file(
        path, f"cannot be read: {reason}", "Check the file and its permissions.", "unreadable_file"
    )


def read_rows(path: Path, *, quick: bool = False) -> Iterator[SourceRow]:
    """The rows of a file, in order; with ``quick`` only the first few.

    Raises ``StudioError`` with the file and the true line.
    """
    reader = check_file(path)
    try:
        for number, row in enumerate(reader(path, QUICK_BYTES if quick else None), start=1):
            yield row
            if quick and number >= QUICK_ROWS:
                return
    except OSError as error:
        raise unreadable(path, error) from error


def decode(raw: bytes, path: Path, line: int) -> str:
    """A line of a file as text; raises ``StudioError`` when it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise bad_file(
            path, f"is not UTF-8 text (byte {error.start + 1} of the line)",
            "Save the file as UTF-8.", "wrong_encoding", line=line,
        ) from error  # fmt: skip


def numbered_lines(file: BinaryIO, path: Path, limit: int | None) -> Iterator[tuple[int, str, int]]:
    """(line number, text with its line end, bytes done) until ``limit`` bytes."""
    done = 0
    number = 0
    while raw := file.readline(-1 if limit is None else limit):
        if limit is not None and len(raw) >= limit:
            return  # a giant line is for the full read
        number += 1
        done += len(raw)
        yield number, decode(raw, path, number), done
        if limit is not None and done >= limit:
            return


def sha256_of(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Hash of a file's content; ``tick`` is called once a block and may raise."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            tick()
    return digest.hexdigest()
