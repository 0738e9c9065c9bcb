"""Finds the data files below a folder with a bounded number of names, and caches the result until a
folder changes.

The check runs after every edit, and a folder may be an entire disk. Which of the files are read is
decided in ``folder``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading.file_types import kind_of_name

MOST_NAMES = 20_000
"""The maximum number of names below a folder; a larger folder is refused."""
_MOST_KEPT = 16
_ABOUT = (
    "readme",
    "license",
    "licence",
    "citation",
    "changelog",
    "notice",
    "dataset_card",
    "thumbs.db",
)
_SETTLED_NS = 2_000_000_000
"""A folder modified this recently may change again without a new modification time."""
_TOO_LARGE_S = 5.0
"""How long a folder is considered too large before it is visited again."""


@dataclass(frozen=True)
class Walk:
    """The data files found, in sorted order, without hidden ones and links to folders.

    ``folders`` are the visited folders with their modification times (ns). ``too_large``: the limit
    of names was reached, and the list is incomplete. ``others`` counts the remaining files by
    suffix, without those that describe a dataset, such as a license.
    """

    files: tuple[Path, ...]
    folders: tuple[tuple[str, int], ...]
    too_large: bool
    begun_ns: int
    others: tuple[tuple[str, int], ...] = ()

    def holds(self) -> bool:
        """Whether walking again would give the same result."""
        now = time.time_ns()
        if self.too_large:
            return 0 <= now - self.begun_ns < _TOO_LARGE_S * 1e9
        settled = self.begun_ns - _SETTLED_NS
        return all(then < settled and _changed_ns(place) == then for place, then in self.folders)


_kept: dict[str, Walk] = {}


def walk(folder: Path) -> Walk:
    """The data files below a folder; raises ``OSError`` for a folder that cannot be read."""
    known = _kept.get(str(folder))
    if known is not None and known.holds():
        return known
    found = _walked(str(folder))
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[str(folder)] = found
    return found


def _walked(folder: str) -> Walk:
    begun = time.time_ns()
    files: list[Path] = []
    folders: list[tuple[str, int]] = []
    others: Counter[str] = Counter()
    waiting, looked_at = [folder], 0
    while waiting:
        place = waiting.pop()
        folders.append((place, _changed_ns(place)))
        below: list[str] = []
        names: list[str] = []
        for entry in _listed(place):
            looked_at += 1
            if looked_at > MOST_NAMES:
                return Walk((), (), True, begun)
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                names.append(entry.name)
            elif not entry.is_symlink():
                below.append(entry.path)
        for path in (Path(place, name) for name in sorted(names)):
            if kind_of_name(path) is not None:
                files.append(path)
            elif not describes(path):
                others[path.suffix.lower()] += 1
        waiting += sorted(below, reverse=True)  # the first one is visited next
    return Walk(tuple(files), tuple(folders), False, begun, tuple(others.most_common()))


def describes(path: Path) -> bool:
    """Whether a file describes a dataset and is not expected to hold rows."""
    name = path.name.lower()
    return name.startswith(_ABOUT) or path.suffix.lower() in (".lock", ".sha256", ".md5")


def _listed(place: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        yield from entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _changed_ns(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return -1
