"""Numbers that stand for names, as the ``datasets`` library notes them in Parquet and Arrow files.

Why: such a column holds 0 and 1, and what they mean stands in the file's own notes. The number stays
one for everybody who does not ask for its name. It must not read rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_NOTES = b"huggingface"
_LONGEST = 10_000


class ClassNumber(int):
    """A number that counts ``names`` from 0."""

    names: tuple[str, ...]

    def __new__(cls, value: int, names: tuple[str, ...]) -> ClassNumber:
        made = super().__new__(cls, value)
        made.names = names
        return made


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names behind each column of an Arrow schema that holds such numbers."""
    try:
        notes = json.loads((schema.metadata or {})[_NOTES])
        features = notes["info"]["features"].items()
        found = {n: f["names"] for n, f in features if f.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {
        column: tuple(names)
        for column, names in found.items()
        if isinstance(names, list)
        and 0 < len(names) <= _LONGEST
        and all(isinstance(n, str) and n.strip() for n in names)
    }


def with_names(
    rows: Sequence[dict[str, Any]], names: Mapping[str, tuple[str, ...]]
) -> Sequence[dict[str, Any]]:
    """The rows, their numbers with names where there are some; they are changed in place."""
    for column, known in names.items():
        for row in rows:
            if isinstance(row.get(column), int):
                row[column] = ClassNumber(row[column], known)
    return rows
