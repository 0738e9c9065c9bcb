"""Opens text files as uncompressed UTF-8 with line feeds.

Gzip, byte order marks, UTF-16, legacy Windows encodings and old Mac line ends are handled here, so
that readers need not, and line numbers are those of the text.
"""

from __future__ import annotations

import codecs
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from studio.data.reading.archive import archive_of, open_file
from studio.data.reading.encoding import SAVE_AS_UTF8, Detected, detect_encoding, unpacked
from studio.data.reading.source import ReadOptions, bad_file, broken_packed
from studio.errors import StudioError

LARGEST_LINE = 256 * 1024 * 1024
_HEAD = 1 << 16
_PIECE = 1 << 16
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Input:
    """An opened file. ``file`` yields UTF-8 from the first character on, which is at offset ``base``."""

    path: Path
    file: BinaryIO
    disk: BinaryIO
    plain: bool
    base: int = 0
    damage: StudioError | None = None
    """The reason why the text ends before the file, after the last complete line."""
    copied: bool = False
    """Whether the text is a temporary copy, so that the file itself is closed."""

    def done(self, place: int) -> int:
        """The bytes of the file on disk that are processed at offset ``place`` of the text."""
        return place if self.plain else self.disk.tell()


@contextmanager
def open_input(path: Path, options: ReadOptions) -> Iterator[Input]:
    """The file as a stream of UTF-8 text."""
    detected = detect_encoding(path, options.encoding)
    for note in detected.notes:
        options.note(note)
    with ExitStack() as stack:
        yield _opened(path, detected, stack)


def open_seekable(path: Path, options: ReadOptions, stack: ExitStack) -> Input:
    """Like ``open_input``, with a seekable ``file``; closed with ``stack``.

    Text that has to be decompressed or converted is written to an anonymous temporary file.
    """
    detected = detect_encoding(path, options.encoding)
    if not detected.packed and not detected.recoded and archive_of(path) is None:
        return _opened(path, detected, stack)
    copy = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115
    damage: StudioError | None = None
    with ExitStack() as own:
        try:
            text = cast(io.BufferedReader, _opened(path, detected, own).file)
            while piece := text.read1(_PIECE):  # read would lose the data before the damage
                copy.write(piece)
        except (EOFError, zlib.error, OSError, StudioError) as error:
            lines = _complete_lines(copy)
            if not lines:
                raise
            damage = error if isinstance(error, StudioError) else broken_packed(path, lines)
    copy.seek(0)
    return Input(path, copy, copy, plain=True, damage=damage, copied=True)


def _complete_lines(copy: BinaryIO) -> int:
    """Remove the incomplete last line; returns the number of lines before it."""
    copy.seek(0)
    lines = end = place = 0
    while block := copy.read(_BLOCK):
        lines += block.count(b"\n")
        if b"\n" in block:
            end = place + block.rindex(b"\n") + 1
        place += len(block)
    copy.truncate(end)
    return lines


def _opened(path: Path, detected: Detected, stack: ExitStack) -> Input:
    disk = stack.enter_context(open_file(path))
    file = disk
    if detected.packed:
        file = stack.enter_context(unpacked(path, disk, detected.packed))
    file.read(detected.skip)
    if detected.recoded:
        recoded = _Recoded(path, file, detected)
        text = io.BufferedReader(recoded, _BLOCK)  # type: ignore[type-var]
        return Input(path, text, disk, plain=False)
    return Input(path, file, disk, plain=not detected.packed, base=detected.skip)


class _Recoded(io.RawIOBase):
    """Converts other encodings and line ends to UTF-8 with line feeds; data before a damaged part
    is returned before the error is raised.
    """

    def __init__(self, path: Path, file: io.BufferedReader, detected: Detected) -> None:
        self._path, self._file, self._bare_cr = path, file, detected.bare_cr
        self._name = detected.encoding.upper()
        self._decoder = codecs.getincrementaldecoder(detected.encoding)()
        self._rest = b""
        self._line = 1
        self._damage: StudioError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        ended = False
        while not self._rest and not ended:
            if self._damage is not None:
                raise self._damage
            raw = self._file.read1(_HEAD)
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
            text = error.object[: error.start].decode(error.encoding, errors="replace")
            self._damage = bad_file(
                self._path,
                f"is not {self._name} text ({error.reason})",
                SAVE_AS_UTF8,
                "wrong_encoding",
                line=self._line + text.count("\r" if self._bare_cr else "\n"),
            )
        return (text.replace("\r", "\n") if self._bare_cr else text).encode("utf-8")


def lines_of(
    source: Input, limit: int | None = None, *, start: int | None = None, number: int = 0
) -> Iterator[tuple[int, bytes, int]]:
    """(line number, bytes with the line end, start offset) up to ``limit`` bytes.

    ``start`` and ``number`` continue from an offset with that many lines before it.
    """
    place = source.base if start is None else start
    if start is not None:
        source.file.seek(start)
    first = place
    most = LARGEST_LINE if limit is None else limit
    while raw := source.file.readline(most):
        if len(raw) >= most and not raw.endswith(b"\n"):
            if limit is not None:
                return  # giant lines are left to the full read
            raise bad_file(
                source.path,
                "is longer than 256 MB",
                "Split it into several rows.",
                "giant_line",
                line=number + 1,
            )
        number += 1
        yield number, raw, place
        place += len(raw)
        if limit is not None and place - first >= limit:
            return


def decode(raw: bytes, path: Path, line: int) -> str:
    """A line as text; raises ``StudioError`` if it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, line, error.start + 1) from error


def not_utf8(path: Path, line: int, place: int | None = None) -> StudioError:
    """The error for bytes that are not UTF-8."""
    where = "" if place is None else f" (byte {place} of the line)"
    return bad_file(path, f"is not UTF-8 text{where}", SAVE_AS_UTF8, "wrong_encoding", line=line)
