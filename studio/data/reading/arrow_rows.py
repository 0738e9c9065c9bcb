"""Rows of Parquet and Arrow files as plain values: what JSON can hold, and bytes.

Dates and times become ISO 8601 text, decimals text with all digits, maps objects. JSON columns of the
``datasets`` library are decoded, class labels get their names, and messages that are stored as an
object of lists become a list of objects. The index of a pandas data frame is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any

from studio.data.reading.class_labels import class_names, with_names
from studio.data.reading.structs import nested_columns, with_structs

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_MESSAGE_KEYS = ({"role", "content"}, {"from", "value"})
_Convert = Callable[[Any], Any]


class ArrowRows:
    """Converts the batches of one file with this schema."""

    def __init__(self, schema: Any) -> None:
        self._names = class_names(schema)
        self._nested = nested_columns(schema)
        self._index = tuple(n for n in schema.names if _PANDAS_INDEX.fullmatch(n))
        features = _features(schema)
        converts = {f.name: _convert(f.type, features.get(f.name)) for f in schema}
        self._converts = {name: convert for name, convert in converts.items() if convert}

    def notes(self, name: str) -> Iterator[str]:
        """Sentences about what is left out of file ``name``."""
        for column in self._index:
            yield f"{name}: the column {column}, the index of a pandas data frame, was left out."

    def of(self, batch: Any) -> list[dict[str, Any]]:
        """The rows of a batch or table."""
        kept = batch.drop_columns(list(self._index)) if self._index else batch
        rows: list[dict[str, Any]] = kept.to_pylist(maps_as_pydicts="lossy")
        with_structs(rows, self._nested)
        for column, convert in self._converts.items():
            for row in rows:
                if row.get(column) is not None:
                    row[column] = convert(row[column])
        with_names(rows, self._names)
        return rows


def _features(schema: Any) -> Mapping[str, Any]:
    """The column types that the ``datasets`` library notes in a file."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _convert(kind: Any, feature: Any = None) -> _Convert | None:
    """What converts a value of an Arrow type, or ``None`` if it stays as it is."""
    import pyarrow.types as types

    if type(kind).__name__ == "JsonType" or _is_json(kind, feature):
        return _from_json
    if types.is_dictionary(kind):
        return _convert(kind.value_type, feature)
    if types.is_duration(kind) or types.is_decimal(kind) or type(kind).__name__ == "UuidType":
        return str
    if types.is_temporal(kind):
        return lambda value: value.isoformat()
    if types.is_map(kind):
        return _of_each_value(_convert(kind.item_type))
    if types.is_struct(kind):
        return _of_struct(kind, feature)
    if types.is_nested(kind) and kind.num_fields == 1:  # a list of any type
        return _of_each(_convert(kind.field(0).type, _element(feature)))
    return None


def _is_json(kind: Any, feature: Any) -> bool:
    import pyarrow.types as types

    is_text = types.is_string(kind) or types.is_large_string(kind)
    return is_text and isinstance(feature, Mapping) and feature.get("_type") == "Json"


def _element(feature: Any) -> Any:
    """The type of the elements of a list."""
    if isinstance(feature, Mapping):
        return feature.get("feature")
    return feature[0] if isinstance(feature, list) and feature else None


def _of_each(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: [None if v is None else convert(v) for v in values]


def _of_each_value(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda found: {k: None if v is None else convert(v) for k, v in found.items()}


def _of_struct(kind: Any, feature: Any) -> _Convert | None:
    import pyarrow.types as types

    fields = [kind.field(i) for i in range(kind.num_fields)]
    known = feature if isinstance(feature, Mapping) else {}
    found = {f.name: _convert(f.type, known.get(f.name)) for f in fields}
    converts = {name: convert for name, convert in found.items() if convert}
    of_lists = all(types.is_list(f.type) or types.is_large_list(f.type) for f in fields)
    is_chat = of_lists and any(keys <= {f.name for f in fields} for keys in _MESSAGE_KEYS)
    if not converts and not is_chat:
        return None

    def convert(value: dict[str, Any]) -> Any:
        for name, inner in converts.items():
            if value.get(name) is not None:
                value[name] = inner(value[name])
        return _as_objects(value) if is_chat else value

    return convert


def _as_objects(lists: Mapping[str, list[Any] | None]) -> Any:
    """A list of objects from an object of lists of the same length."""
    lengths = {len(v) for v in lists.values() if v is not None}
    if len(lengths) != 1:
        return lists
    (length,) = lengths
    columns = (repeat(None, length) if v is None else v for v in lists.values())
    return [dict(zip(lists, values, strict=True)) for values in zip(*columns, strict=True)]


def _from_json(value: Any) -> Any:
    """The decoded JSON; text that is not JSON stays."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
