"""ZIP archives with data files: a member has the path ``folder/archive.zip/inner/rows.jsonl``.

Members are read from the archive, without being unpacked into a folder. Encrypted archives and those
that unpack to an implausible size are refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from studio.data.reading.source import bad_file, unreadable

SUFFIX = ".zip"
HASHED_AT_ONCE = 1 << 20
LARGEST_RATIO = 200
"""A larger file of more than ``ALWAYS_ALLOWED`` bytes is taken for a decompression bomb."""
ALWAYS_ALLOWED = 100_000_000
_ZIP_MARK = b"PK\x03\x04"


@dataclass(frozen=True)
class Stat:
    """What identifies the content of a file or member, and its size in bytes."""

    changed_ns: int
    size: int


def is_archive(path: Path) -> bool:
    """Whether a path has the suffix of an archive."""
    return path.suffix.lower() == SUFFIX


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into, or ``None`` for an ordinary path."""
    for parent in path.parents:
        if is_archive(parent) and parent.is_file():
            return parent
    return None


def members_of(archive: Path) -> Sequence[Path]:
    """The files in an archive, in sorted order, without hidden ones."""
    names = sorted(_directory(archive))
    parts = {name: name.split("/") for name in names}
    return [
        archive / name
        for name in names
        if not any(part.startswith((".", "__MACOSX")) for part in parts[name])
    ]


def stat_of(path: Path) -> Stat:
    """Size and time of a file or member; raises ``OSError``, or ``StudioError`` for an archive that
    cannot be read.
    """
    archive = archive_of(path)
    if archive is None:
        found = path.stat()
        return Stat(found.st_mtime_ns, found.st_size)
    return Stat(archive.stat().st_mtime_ns, _info(archive, path).file_size)


def open_file(path: Path) -> io.BufferedReader:
    """A file or member, opened for reading."""
    archive = archive_of(path)
    if archive is None:
        return path.open("rb")
    info = _info(archive, path)
    try:
        with zipfile.ZipFile(archive) as packed:
            member = packed.open(info)  # keeps the archive open
    except (NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise _unreadable_member(path, error) from error
    return io.BufferedReader(_Member(path, member), HASHED_AT_ONCE)  # type: ignore[arg-type]


class _Member(io.RawIOBase):
    """The data of a member; damage is an error that names the member."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._place = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _unreadable_member(self._path, error) from error
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file that libraries can open by its name: the file itself, or a temporary copy of a member."""
    if archive_of(path) is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lora-studio-", ignore_cleanup_errors=True) as folder:
        yield copy_to(path, Path(folder))


def copy_to(path: Path, folder: Path) -> Path:
    """Copy a member into a folder."""
    copy = folder / path.name
    with open_file(path) as member, copy.open("wb") as target:
        shutil.copyfileobj(member, target, HASHED_AT_ONCE)
    return copy


def refuse_absent(path: Path) -> None:
    """Raise ``StudioError`` for a file that is missing, empty or cannot be opened."""
    try:
        if path.is_dir():
            raise bad_file(path, "is a folder", "Choose one file in it.", "folder_not_file")
        size = stat_of(path).size
        with open_file(path):
            pass
    except (FileNotFoundError, ValueError) as error:  # ValueError: a NUL character in the name
        raise bad_file(
            path,
            f"does not exist (looked in {path.parent})",
            "Choose the file again.",
            "missing_file",
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if size == 0:
        raise bad_file(path, "is empty", "Choose a file that contains rows.", "empty_file")


def sha256_of(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """The sha256 of a file's content; ``tick`` is called for each block and may raise."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
            tick()
    return digest.hexdigest()


def refuse_bomb(path: Path, file: Path) -> None:
    """Refuse a ``file`` that is a ZIP archive inside, such as a workbook, and unpacks to an
    implausible size; ``path`` is its name for the user.
    """
    with file.open("rb") as opened:
        if opened.read(4) != _ZIP_MARK:
            return
    try:
        with zipfile.ZipFile(file) as archive:
            _refuse_bomb(path, archive.infolist(), file.stat().st_size)
    except zipfile.BadZipFile:
        return  # reported by the reader of the file


def refuse_ratio(path: Path, unpacked: int, size: int) -> None:
    """Refuse a file of ``size`` bytes that unpacks to an implausible size."""
    if unpacked > ALWAYS_ALLOWED and unpacked > LARGEST_RATIO * size:
        raise bad_file(
            path,
            f"unpacks to {unpacked / 1e9:,.1f} GB or more, {unpacked // max(size, 1):,} times its size",
            "Such files are made to fill the disk. If you trust it, unpack it first.",
            "zip_bomb",
        )


def _refuse_bomb(path: Path, infos: Sequence[zipfile.ZipInfo], size: int) -> None:
    refuse_ratio(path, sum(info.file_size for info in infos), size)


def _directory(archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by name; raises ``StudioError``."""
    try:
        stat = archive.stat()
    except OSError as error:
        raise unreadable(archive, error) from error
    return _read_directory(archive, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read_directory(archive: Path, changed_ns: int, size: int) -> dict[str, zipfile.ZipInfo]:
    del changed_ns  # a changed archive is read again
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise bad_file(
            archive,
            f"is not a valid ZIP archive ({str(error).rstrip('.') or 'no reason'})",
            "Download or copy it again.",
            "corrupt_zip",
        ) from error
    except OSError as error:
        raise unreadable(archive, error) from error
    _refuse_bomb(archive, infos, size)
    if any(info.flag_bits & 1 for info in infos):
        raise bad_file(
            archive,
            "is encrypted",
            "Unpack it with its password, and choose the folder or the files.",
            "encrypted_file",
        )
    return {info.filename: info for info in infos if not info.is_dir()}


def _info(archive: Path, path: Path) -> zipfile.ZipInfo:
    name = path.relative_to(archive).as_posix()
    found = _directory(archive).get(name)
    if found is None:
        raise FileNotFoundError(2, os.strerror(2), str(path))
    return found


def _unreadable_member(path: Path, error: Exception) -> Exception:
    reason = (str(error).splitlines() or ["no reason"])[0].rstrip(".")
    return bad_file(
        path,
        f"cannot be unpacked ({reason})",
        "Unpack the archive with another program, and choose the folder or the files.",
        "corrupt_zip",
    )
