"""The data files below a folder, looked for while somebody waits: never more than so many names, and
not again while nothing changed.

Why apart from ``folder``: a check runs after every edit, and a folder may be a whole disk. Which files
are then read, and what is said of them, is decided there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading.file_types import kind_of_name

MOST_NAMES = 20_000
"""So many names below a folder are looked at; beyond that it is too large."""
_MOST_KEPT = 16
_SETTLED_NS = 2_000_000_000
"""A folder that changed so shortly before it was looked at may change again in the same tick of its clock."""
_TOO_LARGE_S = 5.0
"""For so long a folder stays too large, whatever happens in it."""


@dataclass(frozen=True)
class Walk:
    """What was found: the data files in sorted order, hidden ones and links to folders left out.

    ``folders`` are those that were looked into, with the time (ns) of their last change. ``too_large``:
    there are more names than are looked at, and the files are not all.
    """

    files: tuple[Path, ...]
    folders: tuple[tuple[str, int], ...]
    too_large: bool
    begun_ns: int

    def holds(self) -> bool:
        """Whether looking again would find the same."""
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
        paths = (Path(place, name) for name in sorted(names))
        files += (path for path in paths if kind_of_name(path) is not None)
        waiting += sorted(below, reverse=True)  # the first one is looked into next
    return Walk(tuple(files), tuple(folders), False, begun)


def _listed(place: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        yield from entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def _changed_ns(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return -1
