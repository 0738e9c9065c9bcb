"""A stamp that changes with a file, for caches of what was read from it.

Size and times together: a file that is written twice within the resolution of the clock usually changes
its size.
"""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int]


def file_stamp(path: Path) -> Stamp:
    """Modification time, change time and size; raises ``OSError`` or ``ValueError`` (an invalid name)."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
