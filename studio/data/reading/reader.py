"""Reads a file row by row: its type, the reader for it, and errors with the correct line.

The ``datasets`` library is not used: it reports the wrong line of a corrupt file, and importing it
takes as long as importing torch. Memory is bounded by one row (or one block of Parquet).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from studio.data.reading.archive import open_file, refuse_absent
from studio.data.reading.arrow import read_arrow
from studio.data.reading.conversations import with_conversations
from studio.data.reading.csv import read_csv
from studio.data.reading.document import read_document
from studio.data.reading.encoding import refuse_pointer
from studio.data.reading.file_types import BINARY, PACKED, kind_of_name
from studio.data.reading.json import is_lines, read_json
from studio.data.reading.jsonl import read_jsonl
from studio.data.reading.parquet import read_parquet
from studio.data.reading.sheet import read_sheet
from studio.data.reading.source import (
    Reader,
    ReadOptions,
    SourceRow,
    bad_file,
    broken_packed,
    rest_lost,
    unreadable,
)
from studio.data.reading.sqlite import read_sqlite
from studio.data.reading.text import read_text
from studio.errors import StudioError

QUICK_ROWS = 50
QUICK_BYTES = 256 * 1024
_ARCHIVES = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".7z", ".rar")
_READERS: Mapping[str, Reader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "document": read_document,
    "sheet": read_sheet,
    "sqlite": read_sqlite,
    "text": read_text,
}


def check_file(path: Path, options: ReadOptions | None = None) -> Reader:
    """The reader for a file that exists, is not empty and has a known type; raises ``StudioError``."""
    refuse_absent(path)
    if kind_of_name(path) in BINARY:
        with open_file(path) as file:
            refuse_pointer(path, file.read(64))
    return reader_of(path, options or ReadOptions())


def read_rows(
    path: Path, options: ReadOptions | None = None, *, quick: bool = False, strict: bool = True
) -> Iterator[SourceRow]:
    """The rows of a file, in order; with ``quick`` only the first few.

    Raises ``StudioError`` with the file and the correct line. If ``strict`` is off, a bad row is
    returned as a row with an error; only damage that hides the start of the next row raises.
    """
    options = options or ReadOptions()
    if quick:
        options = replace(options, limit=QUICK_BYTES)
    found = _read(check_file(path, options), path, options)
    found = islice(found, QUICK_ROWS) if quick else found
    for row in with_conversations(path, options, found, quick=quick):
        if strict and row.error is not None:
            raise row.error
        yield row


def _read(reader: Reader, path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The reader's rows; an error that ends the file early names the first missing row."""
    number = line = 0
    try:
        for row in reader(path, options):
            number, line = number + 1, row.line
            yield row
    except StudioError as error:
        raise rest_lost(error, path, number + 1) from error
    except (EOFError, zlib.error) as error:
        raise rest_lost(broken_packed(path, line), path, number + 1) from error
    except OSError as error:
        if error.errno is None:
            raise rest_lost(broken_packed(path, line), path, number + 1) from error
        raise unreadable(path, error) from error


def kind_of(path: Path, options: ReadOptions) -> str:
    """The type of an existing file; raises ``StudioError`` for an unknown one."""
    kind = kind_of_name(path)
    if kind is None:
        raise _unknown(path)
    if kind in ("jsonl", "json"):
        really = "jsonl" if is_lines(path, options, kind == "jsonl") else "json"
        if really != kind:
            words = {"jsonl": "JSON lines", "json": "one JSON value"}
            options.note(f"{path.name} contains {words[really]}, although its suffix is different.")
        return really
    return kind


def reader_of(path: Path, options: ReadOptions) -> Reader:
    """The reader for an existing file; raises ``StudioError`` for an unknown type."""
    return _READERS[kind_of(path, options)]


def _unknown(path: Path) -> Exception:
    suffixes, suffix = path.suffixes[-2:], path.suffix.lower()
    is_tar = ".tar" in [s.lower() for s in suffixes]
    endings = "".join(suffixes) if is_tar or suffix in PACKED else path.suffix
    if is_tar or suffix in _ARCHIVES:
        return bad_file(
            path,
            f"is an archive (“{endings}”)",
            "Unpack it first, and choose its folder; only .zip archives are read directly.",
            "unknown_suffix",
        )
    if suffix in PACKED:
        return bad_file(
            path,
            f"is compressed, but “{endings}” does not say what it contains",
            f"Name it for example rows.jsonl{path.suffix}; Parquet, Excel and other binary files have to be "
            "unpacked first.",
            "unknown_suffix",
        )
    kind = f"has the suffix “{path.suffix}”" if path.suffix else "has no suffix such as .jsonl"
    return bad_file(
        path,
        f"{kind}, which is not a known file type",
        "Use a .jsonl, .json, .csv, .tsv, .parquet, .arrow, .xlsx, .sqlite, .txt, .md or .pdf file.",
        "unknown_suffix",
    )
