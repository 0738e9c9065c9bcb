"""Text files as readers want them: UTF-8, unpacked, with line feeds, whatever stands on disk.

Gzip, byte order marks, UTF-16, the encodings of old Windows files and the line ends of old Macs are
dealt with here, so that a reader knows nothing of them and line numbers stay those of the text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from studio.errors import StudioError
from studio.formats._source import ReadOptions, bad_file

LARGEST_LINE = 256 * 1024 * 1024
_HEAD = 1 << 16
_PIECE = 1 << 16
_BLOCK = 1 << 18
_GZIP = b"\x1f\x8b"
_SAVE = "Save the file as UTF-8, or choose its encoding in the Dataset node."


@dataclass(frozen=True)
class Look:
    """What the first bytes of a file say. ``encoding`` is a codec; ``skip`` bytes are its mark."""

    packed: bool
    encoding: str
    skip: int
    old_mac: bool
    notes: tuple[str, ...]

    @property
    def recoded(self) -> bool:
        """Whether the text has to be rewritten on the way."""
        return self.encoding != "utf-8" or self.old_mac


@dataclass(frozen=True)
class Input:
    """An opened file. ``file`` gives UTF-8 from the first character on, which is at ``base``."""

    path: Path
    file: BinaryIO
    disk: BinaryIO
    plain: bool
    base: int = 0
    broken_behind: int | None = None
    """The last whole line before its gzip data breaks off, where it does."""

    def done(self, place: int) -> int:
        """Bytes of the file on disk that are done when ``place`` of the text is reached."""
        return place if self.plain else self.disk.tell()


def look_at(path: Path, encoding: str) -> Look:
    """The packing and encoding of a file; raises ``StudioError`` for what is no text."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    packed = head.startswith(_GZIP)
    named = path.suffix.lower() == ".gz"
    if packed and not named:
        raise bad_file(
            path, "is gzip-compressed, but its name does not say so",
            f"Rename it to {path.name}.gz, or unpack it first.", "wrong_encoding",
        )  # fmt: skip
    notes = []
    if named and not packed:
        notes.append(f"{path.name} is called .gz, but is not compressed; it was read as it is.")
    if packed:
        with gzip.open(path) as file_:
            head = _first_of(file_)
    _refuse_archive(path, head)
    codec, skip, more = _codec(path, head, encoding)
    text = head[skip:]
    line_end, old = ("\n".encode(codec), "\r".encode(codec))
    old_mac = old in text and line_end not in text
    if old_mac:
        more.append(f"{path.name} ends its lines with a bare carriage return; that was accepted.")
    return Look(packed, codec, skip, old_mac, (*notes, *more))


def _first_of(file: gzip.GzipFile) -> bytes:
    """As much as can be unpacked of the first bytes; damage is told by the reader, with its line."""
    head = b""
    try:
        while len(head) < _HEAD and (more := file.read1(_HEAD)):
            head += more
    except (EOFError, OSError):
        pass
    return head


def _refuse_archive(path: Path, head: bytes) -> None:
    kinds = {b"PK\x03\x04": "a ZIP archive", b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file",
             b"7z\xbc\xaf": "a 7z archive", b"BZh": "bzip2-compressed", b"\xfd7zXZ": "xz-compressed",
             b"\x28\xb5\x2f\xfd": "zstd-compressed", b"%PDF": "a PDF document",
             b"SQLite format": "an SQLite database"}  # fmt: skip
    kind = next((k for mark, k in kinds.items() if head.startswith(mark)), None)
    if kind is not None:
        hint = (
            "Give it the right ending." if kind.endswith(" file") else "Unpack or export it first."
        )
        raise bad_file(path, f"is {kind}, not text", hint, "wrong_encoding")
    rows = {s.lower() for s in path.suffixes} & {".jsonl", ".ndjson", ".json", ".csv", ".tsv"}
    if rows and head[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise bad_file(
            path, "is a web page, not data", "Download the file itself, not the page that shows it.",
            "web_page",
        )  # fmt: skip
    if head.startswith(b"version https://git-lfs"):
        raise bad_file(
            path, "is only a pointer to a file (Git LFS), not the data",
            "Fetch the file itself, with “git lfs pull” or from where it is kept.", "lfs_pointer",
        )  # fmt: skip


def _codec(path: Path, head: bytes, wanted: str) -> tuple[str, int, list[str]]:
    """(codec, bytes of its mark, notes)."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise bad_file(path, "is UTF-32, not UTF-8 text", _SAVE, "wrong_encoding")
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8", 3, [f"{path.name} starts with a byte order mark; it was left out."]
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark) and wanted in ("auto", "utf-16"):
            return codec, 2, [f"{path.name} is UTF-16; it was read as such."]
    likely = _unmarked_utf16(head)
    if wanted == "utf-16":
        return likely or "utf-16-le", 0, []
    if likely and wanted == "auto":
        raise bad_file(
            path, "looks like UTF-16 without a byte order mark, not UTF-8 text", _SAVE, "wrong_encoding"
        )  # fmt: skip
    return ("utf-8" if wanted == "auto" else wanted), 0, []


def _unmarked_utf16(head: bytes) -> str:
    """The codec, where every second byte is nearly always zero as in UTF-16 of western text."""
    even, odd = head[0::2], head[1::2]
    if len(odd) < 2:
        return ""
    shares = even.count(0) / len(even), odd.count(0) / len(odd)
    if shares[1] > 0.7 and shares[0] < 0.3:
        return "utf-16-le"
    return "utf-16-be" if shares[0] > 0.7 and shares[1] < 0.3 else ""


@contextmanager
def open_input(path: Path, options: ReadOptions) -> Iterator[Input]:
    """The file as UTF-8 text, as a stream."""
    look = look_at(path, options.encoding)
    for note in look.notes:
        options.note(note)
    with ExitStack() as stack:
        yield _opened(path, look, stack)


def open_seekable(path: Path, options: ReadOptions, stack: ExitStack) -> Input:
    """Like ``open_input``, and ``file`` can go to any place; closed with ``stack``.

    Text that has to be unpacked or rewritten is put into a nameless temporary file.
    """
    look = look_at(path, options.encoding)
    if not look.packed and not look.recoded:
        return _opened(path, look, stack)
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    stack.callback(copy.close)
    broken: int | None = None
    with ExitStack() as own:
        try:
            shutil.copyfileobj(_opened(path, look, own).file, copy, _PIECE)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            broken = _whole_lines(copy)
            if not broken:
                raise
    copy.seek(0)
    return Input(path, copy, copy, plain=True, broken_behind=broken)


def _whole_lines(copy: BinaryIO) -> int:
    """Leave out the line that breaks off; how many there are before it."""
    copy.seek(0)
    lines = end = place = 0
    while block := copy.read(_BLOCK):
        lines += block.count(b"\n")
        if b"\n" in block:
            end = place + block.rindex(b"\n") + 1
        place += len(block)
    copy.truncate(end)
    return lines


def _opened(path: Path, look: Look, stack: ExitStack) -> Input:
    disk = stack.enter_context(path.open("rb"))
    file: BinaryIO = disk
    if look.packed:
        unpacked = stack.enter_context(gzip.GzipFile(fileobj=disk, mode="rb"))
        packed = _Unpacked(unpacked)
        file = io.BufferedReader(packed, _BLOCK)  # type: ignore[type-var]
    file.read(look.skip)
    if look.recoded:
        recoded = _Recoded(path, file, look)
        text = io.BufferedReader(recoded, _BLOCK)  # type: ignore[type-var]
        return Input(path, text, disk, plain=False)
    return Input(path, file, disk, plain=not look.packed, base=look.skip)


class _Unpacked(io.RawIOBase):
    """Gzip data as far as it goes: what stands before a damage is given out before it is told."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Recoded(io.RawIOBase):
    """Another encoding, or other line ends, as UTF-8 with line feeds."""

    def __init__(self, path: Path, file: BinaryIO, look: Look) -> None:
        self._path, self._file, self._old_mac = path, file, look.old_mac
        self._name = look.encoding.upper()
        self._decoder = codecs.getincrementaldecoder(look.encoding)()
        self._rest = b""
        self._line = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        ended = False
        while not self._rest and not ended:
            raw = self._file.read(_HEAD)
            ended = not raw
            self._rest = self._recode(raw)
            self._line += self._rest.count(b"\n")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _recode(self, raw: bytes) -> bytes:
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding, errors="replace")
            raise bad_file(
                self._path, f"is not {self._name} text ({error.reason})", _SAVE,
                "wrong_encoding", line=self._line + before.count("\r" if self._old_mac else "\n"),
            ) from error  # fmt: skip
        return (text.replace("\r", "\n") if self._old_mac else text).encode("utf-8")


def lines_of(
    source: Input, limit: int | None = None, *, start: int | None = None, number: int = 0
) -> Iterator[tuple[int, bytes, int]]:
    """(line number, bytes with the line end, where it starts) until ``limit`` bytes.

    ``start`` and ``number`` go on from a place with so many lines before it.
    """
    place = source.base if start is None else start
    if start is not None:
        source.file.seek(start)
    first = place
    most = LARGEST_LINE if limit is None else limit
    while raw := source.file.readline(most):
        if len(raw) >= most and not raw.endswith(b"\n"):
            if limit is not None:
                return  # a giant line is for the full read
            raise bad_file(
                source.path, "is longer than 256 MB", "Split it into several rows.", "giant_line",
                line=number + 1,
            )  # fmt: skip
        number += 1
        yield number, raw, place
        place += len(raw)
        if limit is not None and place - first >= limit:
            return


def decode(raw: bytes, path: Path, line: int) -> str:
    """A line as text; raises ``StudioError`` when it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, line, error.start + 1) from error


def not_utf8(path: Path, line: int, place: int | None = None) -> StudioError:
    """The error for bytes that are not UTF-8."""
    where = "" if place is None else f" (byte {place} of the line)"
    return bad_file(path, f"is not UTF-8 text{where}", _SAVE, "wrong_encoding", line=line)
