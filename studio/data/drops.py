"""Rows excluded by the user by number or by line: ``3, 10-20, chats.jsonl:17``.

Numbers count the rows of all files from 1; a number after a file name is a line of that file.
"""

from __future__ import annotations

import re
from pathlib import Path

from studio.errors import StudioError

_ENTRY = re.compile(r"(?:(?P<file>.+):)?(?P<first>\d+)(?:-(?P<last>\d+))?")


class Drops:
    """The parsed list; raises ``StudioError`` for invalid syntax."""

    def __init__(self, text: str) -> None:
        self._entries: dict[tuple[str, int, int], bool] = {}
        self._single: dict[tuple[str, int], tuple[str, int, int]] = {}
        self._spans: list[tuple[str, int, int]] = []
        for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
            self._add(entry)

    def _add(self, entry: str) -> None:
        found = _ENTRY.fullmatch(entry)
        first = int(found["first"]) if found else 0
        last = int(found["last"] or first) if found else 0
        if found is None or not 1 <= first <= last:
            raise StudioError(
                f"“{entry}” is neither a row number nor a line of a file.",
                hint="Enter row numbers such as 3 or 10-20, or lines such as chats.jsonl:17.",
                field="drop_rows",
                code="bad_drop_rows",
            )
        span = (found["file"] or "", first, last)
        self._entries[span] = False
        if first == last:
            self._single[span[0], first] = span
        else:
            self._spans.append(span)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def has(self, number: int, path: Path, line: int) -> bool:
        """Whether a row is excluded; ``number`` counts from 1."""
        places = (("", number), (path.name, line), (str(path), line))
        hits = [self._single[p] for p in places if p in self._single]
        hits += [
            s for s in self._spans for name, at in places if s[0] == name and s[1] <= at <= s[2]
        ]
        for span in hits:
            self._entries[span] = True
        return bool(hits)

    def unused(self) -> str:
        """The entries that matched no row, in the syntax of the setting."""
        names = [
            (f"{file}:" if file else "") + (str(first) if first == last else f"{first}-{last}")
            for (file, first, last), met in self._entries.items()
            if not met
        ]
        return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
