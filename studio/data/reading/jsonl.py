"""JSON lines: one object per line; blank lines are allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.data.reading.input import Input, decode, lines_of, open_input
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.errors import StudioError


def read_jsonl(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The objects of the file; a line that is not an object is a bad row."""
    with open_input(path, options) as source:
        yield from rows_from(source, options)


def rows_from(
    source: Input, options: ReadOptions, start: int | None = None, number: int = 0
) -> Iterator[SourceRow]:
    """The rows from an offset in the text, with ``number`` lines before it."""
    parser = Parser()
    for line, raw, place in lines_of(source, options.limit, start=start, number=number):
        if raw.isspace():
            continue
        done = source.done(place + len(raw))
        try:
            value = parser.object(decode(raw, source.path, line), source.path, line)
            yield SourceRow(line, value, done, source.path, None, place, parser.remark())
        except StudioError as error:
            yield bad_row(line, source.path, error, done, place)


class Parser:
    """A parser for standard JSON that notes duplicate keys.

    NaN, which JSON does not define but many programs write, is a value that formats refuse where
    they need one.
    """

    def __init__(self) -> None:
        self._twice = False
        self.decoder = json.JSONDecoder(
            parse_constant=_constant, parse_float=_finite, object_pairs_hook=self._object
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        self._twice = self._twice or len(found) != len(pairs)
        return found

    def remark(self) -> str:
        """What was tolerated in the values since the last call."""
        twice, self._twice = self._twice, False
        return "duplicate_key" if twice else ""

    def object(self, text: str, path: Path, line: int) -> dict[str, Any]:
        """The JSON object in a line; raises ``StudioError``."""
        try:
            value = self.decoder.decode(text)
        except json.JSONDecodeError as error:
            raise not_json(path, line, f"{error.msg}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise not_json(path, line, reason) from error
        if not isinstance(value, dict):
            raise not_object(path, line, value)
        return value


def _constant(name: str) -> float:
    """NaN; Infinity is refused."""
    if name == "NaN":
        return math.nan
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    """The number; one that is too large would become infinite without a word."""
    value = float(digits)
    if math.isinf(value):
        shown = digits if len(digits) <= 20 else f"{digits[:17]}..."
        raise ValueError(f"{shown} is larger than any number a program can store")
    return value


def not_json(path: Path, line: int, reason: str) -> StudioError:
    """The error for text that is not JSON."""
    return bad_file(
        path,
        f"is not valid JSON ({reason})",
        "Correct or remove that line.",
        "corrupt_json",
        line=line,
    )


def not_object(path: Path, line: int, value: Any) -> StudioError:
    """The error for a row that is not an object."""
    kinds = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return bad_file(
        path,
        f"is {kinds.get(type(value), 'null')} instead of an object with columns",
        'Write each row as {"column": "text", ...}.',
        "not_an_object",
        line=line,
    )
