"""Detects the compression, encoding and line ends of a text file from its first 64 KB.

Files that are not text are refused with their type.
"""

from __future__ import annotations

import codecs
import gzip
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading.source import bad_file

SAVE_AS_UTF8 = "Save the file as UTF-8, or choose its encoding in the Dataset node."
_HEAD = 1 << 16
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Detected:
    """``encoding`` is a codec, ``skip`` the bytes of its byte order mark; ``bare_cr``: lines end in \\r alone."""

    packed: bool
    encoding: str
    skip: int
    bare_cr: bool
    notes: tuple[str, ...]

    @property
    def recoded(self) -> bool:
        """Whether the text has to be converted while it is read."""
        return self.encoding != "utf-8" or self.bare_cr


def detect_encoding(path: Path, encoding: str) -> Detected:
    """Compression and encoding of a file; raises ``StudioError`` for a file that is not text."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    packed = head.startswith(_GZIP)
    named = path.suffix.lower() == ".gz"
    if packed and not named:
        raise bad_file(
            path,
            "is gzip-compressed, but its name does not end in .gz",
            f"Rename it to {path.name}.gz, or decompress it first.",
            "wrong_encoding",
        )
    notes = []
    if named and not packed:
        notes.append(
            f"{path.name} has the suffix .gz, but is not compressed; it was read as it is."
        )
    if packed:
        with gzip.open(path) as file_:
            head = _first_of(file_)
    _refuse_archive(path, head)
    codec, skip, more = _codec(path, head, encoding)
    text = head[skip:]
    line_end, old = ("\n".encode(codec), "\r".encode(codec))
    bare_cr = old in text and line_end not in text
    if bare_cr:
        more.append(f"The lines of {path.name} end with a bare carriage return; this was accepted.")
    return Detected(packed, codec, skip, bare_cr, (*notes, *more))


def _first_of(file: gzip.GzipFile) -> bytes:
    """The part of the first bytes that can be decompressed; the reader reports damage with its line."""
    head = b""
    try:
        while len(head) < _HEAD and (more := file.read1(_HEAD)):
            head += more
    except (EOFError, OSError):
        pass
    return head


def _refuse_archive(path: Path, head: bytes) -> None:
    kinds = {
        b"PK\x03\x04": "a ZIP archive",
        b"PAR1": "a Parquet file",
        b"ARROW1": "an Arrow file",
        b"7z\xbc\xaf": "a 7z archive",
        b"BZh": "bzip2-compressed",
        b"\xfd7zXZ": "xz-compressed",
        b"\x28\xb5\x2f\xfd": "zstd-compressed",
        b"%PDF": "a PDF document",
        b"SQLite format": "an SQLite database",
    }
    kind = next((k for mark, k in kinds.items() if head.startswith(mark)), None)
    if kind is not None:
        hint = (
            "Rename it with the correct suffix."
            if kind.endswith(" file")
            else "Unpack or export it first."
        )
        raise bad_file(path, f"is {kind}, not text", hint, "wrong_encoding")
    rows = {s.lower() for s in path.suffixes} & {".jsonl", ".ndjson", ".json", ".csv", ".tsv"}
    if rows and head[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise bad_file(
            path,
            "is a web page instead of data",
            "Download the file itself instead of the page that shows it.",
            "web_page",
        )
    if head.startswith(b"version https://git-lfs"):
        raise bad_file(
            path,
            "is a Git LFS pointer instead of the data",
            "Download the file itself with “git lfs pull” or from its source.",
            "lfs_pointer",
        )


def _codec(path: Path, head: bytes, wanted: str) -> tuple[str, int, list[str]]:
    """(codec, bytes of its byte order mark, notes)."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise bad_file(path, "is UTF-32, not UTF-8 text", SAVE_AS_UTF8, "wrong_encoding")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8", 3, [f"{path.name} starts with a byte order mark, which was ignored."]
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark) and wanted in ("auto", "utf-16"):
            return codec, 2, [f"{path.name} was read as UTF-16."]
    likely = _unmarked_utf16(head)
    if wanted == "utf-16":
        return likely or "utf-16-le", 0, []
    if likely and wanted == "auto":
        raise bad_file(
            path,
            "looks like UTF-16 without a byte order mark, not UTF-8 text",
            SAVE_AS_UTF8,
            "wrong_encoding",
        )
    return ("utf-8" if wanted == "auto" else wanted), 0, []


def _unmarked_utf16(head: bytes) -> str:
    """UTF-16 without a byte order mark, if nearly every second byte is zero as in western text."""
    even, odd = head[0::2], head[1::2]
    if len(odd) < 2:
        return ""
    shares = even.count(0) / len(even), odd.count(0) / len(odd)
    if shares[1] > 0.7 and shares[0] < 0.3:
        return "utf-16-le"
    return "utf-16-be" if shares[0] > 0.7 and shares[1] < 0.3 else ""
