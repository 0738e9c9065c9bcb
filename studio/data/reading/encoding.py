"""Detects the compression, encoding and line ends of a text file from its first 64 KB.

The encoding of a file that starts with ASCII is judged at its first other characters, within 8 MB.
Files that are not text are refused with their type.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, cast

from studio.data.reading.archive import open_file, refuse_ratio, stat_of
from studio.data.reading.source import Note, bad_file
from studio.node_settings.dataset import ENCODINGS, Encoding

SAVE_AS_UTF8 = "Save the file as UTF-8, or choose its encoding in the Dataset node."
_HEAD = 1 << 16
_BLOCK = 1 << 18
_PIECE = 1 << 14
_SEARCHED = 1 << 23  # bytes in which the first character beyond ASCII is looked for
_LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")
_DETECTED = (
    *_LATIN,
    *("cp1251", "koi8-r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949"),
)
_CODECS = {"euc_jis_2004": "euc_jp"}  # chardet's names for codecs of the settings
_NEVER_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\ufffd]")
_SPACED = re.compile(r"[\n ]|\A[\[{]")
_ISO_2022 = re.compile(rb"\x1b(?:\$(?:[@B]|\(D|(\)C))|\([IJ])")
"""What switches to Japanese or Korean (the group) characters in ASCII text."""
Packed = Literal["", "gzip", "zstd", "bzip2", "xz"]
_MARKS: Mapping[Packed, bytes] = {
    "gzip": b"\x1f\x8b",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
}
_NAMES: Mapping[str, Packed] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}


@dataclass(frozen=True)
class Detected:
    """``encoding`` is a codec, ``skip`` the bytes of its byte order mark; ``bare_cr``: lines end in \\r alone."""

    packed: Packed
    encoding: str
    skip: int
    bare_cr: bool
    notes: tuple[Note, ...]

    @property
    def recoded(self) -> bool:
        """Whether the text has to be converted while it is read."""
        return self.encoding != "utf-8" or self.bare_cr


def detect_encoding(path: Path, encoding: str) -> Detected:
    """Compression and encoding of a file; raises ``StudioError`` for a file that is not text."""
    stat = stat_of(path)
    return _detected(path, encoding, stat.changed_ns, stat.size)


@lru_cache(maxsize=64)
def _detected(path: Path, encoding: str, changed_ns: int, size: int) -> Detected:
    del changed_ns, size  # a changed file is judged again
    with open_file(path) as file:
        head = file.read(_HEAD)
    packed = next((kind for kind, mark in _MARKS.items() if head.startswith(mark)), "")
    named = _NAMES.get(path.suffix.lower(), "")
    if packed and packed != named:
        suffix = next(suffix for suffix, kind in _NAMES.items() if kind == packed)
        raise bad_file(
            path,
            f"is {packed}-compressed, but its name does not say so",
            f"Rename it to {path.name}{suffix}, or unpack it first.",
            "wrong_encoding",
        )
    notes = []
    if named and not packed:
        suffix = path.suffix.lower()
        notes.append(
            Note(f"{path.name} is called {suffix}, but is not compressed; it was read as it is.")
        )
    with open_file(path) as file:
        text = unpacked(path, file, packed) if packed else file
        head = _read(text, _HEAD)
        _refuse_archive(path, head)
        codec, skip, more = _codec(path, head, text, encoding)
    letters = head[skip:]
    line_end, old = ("\n".encode(codec), "\r".encode(codec))
    bare_cr = old in letters and line_end not in letters
    if bare_cr:
        more.append(
            Note(f"The lines of {path.name} end with a bare carriage return; this was accepted.")
        )
    return Detected(packed, codec, skip, bare_cr, (*notes, *more))


def unpacked(path: Path, file: io.BufferedReader, packed: Packed) -> io.BufferedReader:
    """The decompressed data of an opened file."""
    stream: Any
    if packed == "zstd":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    elif packed == "bzip2":
        stream = _Streams(file, bz2.BZ2Decompressor)
    elif packed == "xz":
        stream = _Streams(file, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ), b"\0")
    else:
        stream = gzip.GzipFile(fileobj=file, mode="rb")
    raw = _Unpacked(path, stream, stat_of(path).size)
    return io.BufferedReader(raw, _BLOCK)  # type: ignore[arg-type]


class _Streams:
    """Concatenated streams of bzip2 or xz. Unlike BZ2File and LZMAFile it refuses other data after them,
    as gzip does; xz may be padded."""

    def __init__(
        self, file: io.BufferedReader, new_stream: Callable[[], Any], padding: bytes = b""
    ) -> None:
        self._file, self._new_stream, self._padding = file, new_stream, padding
        self._stream = new_stream()

    def read1(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data.lstrip(self._padding)
                while not packed:
                    packed = self._file.read1(_BLOCK)
                    if not packed:
                        return b""
                    packed = packed.lstrip(self._padding)
                self._stream = self._new_stream()
            elif self._stream.needs_input:
                packed = self._file.read1(_BLOCK)
                if not packed:
                    raise EOFError("the last stream is incomplete")
            unpacked: bytes = self._stream.decompress(packed, size)
            if unpacked:
                return unpacked

    def close(self) -> None:
        """Streams need not be closed."""


class _Unpacked(io.RawIOBase):
    """Decompressed data; data before a damaged part is returned before the error is raised."""

    def __init__(self, path: Path, file: Any, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        # A read that reaches damaged data may return nothing, so pieces are small.
        try:
            data = self._file.read1(min(len(buffer), _PIECE))
        except lzma.LZMAError as error:
            raise EOFError(str(error)) from error  # as the other compressions report damage
        buffer[: len(data)] = data
        self._count += len(data)
        refuse_ratio(self._path, self._count, self._size)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _read(file: io.BufferedReader, most: int) -> bytes:
    """The next bytes; of damaged data what can be decompressed, as the reader reports the damage
    with its line.
    """
    found = b""
    try:
        while len(found) < most and (more := file.read1(most - len(found))):
            found += more
    except (EOFError, OSError, zlib.error):
        pass
    return found


def _refuse_archive(path: Path, head: bytes) -> None:
    kinds = {
        b"PK\x03\x04": "a ZIP archive",
        b"PAR1": "a Parquet file",
        b"ARROW1": "an Arrow file",
        b"7z\xbc\xaf": "a 7z archive",
        b"\xd0\xcf\x11\xe0": "an old Excel file",
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
    refuse_pointer(path, head)


def refuse_pointer(path: Path, head: bytes) -> None:
    """Refuse the small text that Git LFS leaves in the place of a file; ``head`` is how it starts."""
    if head.startswith(b"version https://git-lfs"):
        raise bad_file(
            path,
            "is a Git LFS pointer instead of the data",
            "Download the file itself with “git lfs pull” or from its source.",
            "lfs_pointer",
        )


def _codec(
    path: Path, head: bytes, rest: io.BufferedReader, wanted: str
) -> tuple[str, int, list[Note]]:
    """(codec, bytes of its byte order mark, notes); ``rest`` is the text after ``head``."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise bad_file(path, "is UTF-32, not UTF-8 text", SAVE_AS_UTF8, "wrong_encoding")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8", 3, [Note(f"{path.name} starts with a byte order mark, which was ignored.")]
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark) and wanted in ("auto", "utf-16"):
            return codec, 2, [Note(f"{path.name} was read as UTF-16.")]
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
    if wanted != "auto":
        return wanted, 0, []
    codec = _guess(_beyond_ascii(head, rest))
    if codec == "utf-8":
        return codec, 0, []
    note = Note(
        f"{path.name} is not UTF-8; it was read as {ENCODINGS[codec]}, detected from its characters.",
        "detected_encoding",
        "encoding",
        "Choose another encoding in the Dataset node if letters look wrong.",
    )
    return codec, 0, [note]


def _beyond_ascii(head: bytes, rest: io.BufferedReader) -> bytes:
    """The bytes from the line with the first character beyond ASCII on, as far as they were read."""
    block, searched = head, len(head)
    while block.isascii() and not _ISO_2022.search(block) and searched < _SEARCHED:
        block = _read(rest, 1 << 20)
        searched += len(block)
        if not block:
            break
    first = re.search(rb"[\x80-\xff]", block) or _ISO_2022.search(block)
    if first is None:
        return b""
    start = block.rfind(b"\n", 0, first.start()) + 1
    found = block[start : start + _HEAD]
    return found if len(found) > _HEAD // 2 else found + _read(rest, _HEAD)


def _guess(sample: bytes) -> Encoding:
    """The encoding of text beyond ASCII; UTF-8 where no other is more likely."""
    if sample.isascii():
        shift = _ISO_2022.search(sample)
        return "utf-8" if shift is None else "iso2022_kr" if shift[1] else "iso2022_jp_ext"
    text = sample.decode("utf-8", errors="replace")
    damaged = text.rstrip("\ufffd").count("\ufffd")  # a character may be cut at the end
    if not damaged or sum(c > "\x7f" for c in text) - text.count("\ufffd") > damaged:
        return "utf-8"  # single damaged characters are reported with their line
    if _NEVER_IN_TEXT.search(sample):
        return "utf-8"  # not text; refused at the first line that is not UTF-8
    lines = b"".join(line for line in sample.splitlines(True) if not line.isascii())
    if not any(c > "\x7f" and c.isalpha() for c in lines.decode("cp1252", errors="replace")):
        return "cp1252"  # signs such as £ and quotation marks among ASCII letters
    codec = _likeliest(lines, _DETECTED)
    if codec not in _LATIN and _mixes_scripts(lines, codec):
        codec = _likeliest(lines, _LATIN)
    if codec and codec != "cp1252" and _same_text(lines, codec, "cp1252"):
        return "cp1252"
    return codec or "utf-8"


def _likeliest(lines: bytes, codecs_: tuple[str, ...]) -> Encoding | Literal[""]:
    import chardet  # takes time to import, and few files need it

    found = chardet.detect(
        lines, include_encodings=codecs_, compat_names=False, prefer_superset=True
    )["encoding"]
    named = _CODECS.get(str(found), str(found))
    return cast(Encoding, named) if named in ENCODINGS else ""


def _mixes_scripts(lines: bytes, codec: str) -> bool:
    """Whether most words with letters beyond ASCII also have ASCII letters, as in “café”: such text
    is Latin.
    """
    if codec not in ("cp1251", "koi8-r", "cp1253", "cp1255", "cp1256", "cp874"):
        return False
    words = re.findall(r"[^\W\d_]+", lines.decode(codec, errors="replace"))
    beyond = [w for w in words if not w.isascii()]
    mixed = [w for w in beyond if re.search("[A-Za-z]", w)]
    return 2 * len(mixed) > len(beyond)


def _same_text(lines: bytes, one: str, other: str) -> bool:
    return lines.decode(one, errors="replace") == lines.decode(other, errors="replace")


def _unmarked_utf16(head: bytes) -> str:
    """UTF-16 without a byte order mark: nearly every second byte is zero as in western text, or the text
    has line ends or spaces, or is JSON, and has no control characters, only in this encoding.
    """
    even, odd = head[0::2], head[1::2]
    if len(odd) < 2:
        return ""
    shares = even.count(0) / len(even), odd.count(0) / len(odd)
    if shares[1] > 0.7 and shares[0] < 0.3:
        return "utf-16-le"
    if shares[0] > 0.7 and shares[1] < 0.3:
        return "utf-16-be"
    if 0 in head:  # other scripts have zeros only in line ends, spaces and punctuation
        for codec in ("utf-16-le", "utf-16-be"):
            text = head[: len(head) // 2 * 2].decode(codec, errors="replace")
            if _SPACED.search(text) and not _CONTROL.search(text[:-1]):
                return codec
    return ""
