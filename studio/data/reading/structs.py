"""Objects of Parquet and Arrow files, and the nulls that their fixed schema adds.

All rows of such a file have the same keys at every level: a tool call has the arguments of all other
calls of the file as nulls. JSON, also as text within such a file, has only the nulls that were
written. The values of a struct therefore know where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Struct(dict[str, Any]):
    """The value of an Arrow struct with nulls: such a key may be one that the row does not have."""


def nested_columns(schema: Any) -> tuple[str, ...]:
    """The columns of an Arrow schema that hold structs."""
    return tuple(f.name for f in schema if _holds_struct(f.type))


def with_structs(
    rows: Sequence[dict[str, Any]], columns: Sequence[str]
) -> Sequence[dict[str, Any]]:
    """The rows, in which the objects of these columns are ``Struct``; modified in place."""
    for column in columns:
        for row in rows:
            row[column] = _marked(row.get(column))
    return rows


def without_filler(value: Any) -> Any:
    """The value without the nulls of Arrow structs; nulls of JSON stay."""
    if isinstance(value, Mapping):
        filled = isinstance(value, Struct)
        return {k: without_filler(v) for k, v in value.items() if not (filled and v is None)}
    return [without_filler(v) for v in value] if isinstance(value, (list, tuple)) else value


def _marked(value: Any) -> Any:
    if type(value) is dict:
        for key, inner in value.items():
            if type(inner) is dict or type(inner) is list:
                value[key] = _marked(inner)
        return Struct(value) if None in value.values() else value
    if type(value) is list and value and type(value[0]) is not str:
        return [_marked(v) for v in value]
    return value


def _holds_struct(kind: Any) -> bool:
    inner = (kind.field(i).type for i in range(kind.num_fields))
    return type(kind).__name__ == "StructType" or any(map(_holds_struct, inner))
