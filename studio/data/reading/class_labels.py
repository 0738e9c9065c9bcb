"""Class labels: integers with names in the metadata of the ``datasets`` library (Parquet and Arrow
files).

Such a column contains 0 and 1, and their names are in the file's metadata. The value behaves as an
integer unless its name is requested.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_NOTES = b"huggingface"
_LONGEST = 10_000


class ClassNumber(int):
    """An index into ``names``, from 0."""

    names: tuple[str, ...]

    def __new__(cls, value: int, names: tuple[str, ...]) -> ClassNumber:
        made = super().__new__(cls, value)
        made.names = names
        return made


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """The class names of each column of an Arrow schema that has them."""
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
    """The rows, in which class labels get their names; modified in place."""
    for column, known in names.items():
        for row in rows:
            if isinstance(row.get(column), int):
                row[column] = ClassNumber(row[column], known)
    return rows
