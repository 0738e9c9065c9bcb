"""JSON lines: one object a line, blank lines allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from studio.errors import StudioError
from studio.formats._source import SourceRow, bad_file, numbered_lines


def read_jsonl(path: Path, limit: int | None) -> Iterator[SourceRow]:
    """The objects of the file; raises ``StudioError`` with the line that is not one."""
    with path.open("rb") as file:
        for number, line, done in numbered_lines(file, path, limit):
            if line.strip():
                yield SourceRow(number, parse_object(line, path, number), done)


def parse_object(line: str, path: Path, number: int) -> dict[str, Any]:
    """The JSON object in a line."""
    try:
        value = json.loads(line, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise not_json(path, number, f"{error.msg}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise not_json(path, number, reason) from error
    if not isinstance(value, dict):
        raise not_object(path, number, value)
    return value


def refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(f"{name} is not a JSON value")


def not_json(path: Path, line: int, reason: str) -> StudioError:
    """The error for text that is not JSON."""
    return bad_file(
        path,
        f"is not valid JSON ({reason})",
        "Mend or remove that line.",
        "corrupt_json",
        line=line,
    )


def not_object(path: Path, line: int, value: Any) -> StudioError:
    """The error for a row that is not an object."""
    kinds = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return bad_file(
        path, f"is {kinds.get(type(value), 'null')}, not an object with columns",
        'Write each row as {"column": "text", ...}.', "not_an_object", line=line,
    )  # fmt: skip
