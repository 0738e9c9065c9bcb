"""JSON files: one array of objects, or one object that contains one array of objects.

Read as a stream: only the current element is in memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from studio.data.reading.input import Input, open_input
from studio.data.reading.json_text import JsonText, QuickEnd
from studio.data.reading.jsonl import not_json, not_object
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row

_LOOK = 1 << 20


def read_json(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The objects of the file's array; raises ``StudioError`` with the correct line."""
    with open_input(path, options) as source:
        try:
            yield from rows_from(source, options)
        except QuickEnd:
            return


def rows_from(
    source: Input, options: ReadOptions, start: int | None = None, number: int = 0
) -> Iterator[SourceRow]:
    """The rows; with ``start`` from the element at that offset, with ``number`` lines before it."""
    if start is None:
        yield from _rows(JsonText(source, options.limit), options)
    else:
        yield from _elements(JsonText(source, options.limit, start, number + 1))


def is_lines(path: Path, options: ReadOptions, likely: bool) -> bool:
    """Whether a file contains JSON lines and not one JSON value; ``likely`` if both are possible."""
    quiet = replace(options, note=lambda sentence: None)
    with open_input(path, quiet) as source:
        first = _next_line(source)
        second = _next_line(source)
    if likely:  # JSON lines, unless it starts like a multi-line value or a list
        if first[:1] == b"[":
            return second[:1] == b"[" and _is_complete(first, list)
        return not (first == b"{" and second)
    return second.startswith(b"{") and _is_complete(first, dict)


def _next_line(source: Input) -> bytes:
    """The next nonblank line, as far as needed for detection."""
    try:
        while raw := source.file.readline(_LOOK):
            if raw.strip():
                return raw.strip()
    except (EOFError, OSError, zlib.error):
        pass  # damaged gzip data: reported by the reader, with its line
    return b""


def _is_complete(raw: bytes, kind: type) -> bool:
    try:
        return isinstance(json.loads(raw), kind)
    except (ValueError, RecursionError):
        return False


def _rows(text: JsonText, options: ReadOptions) -> Iterator[SourceRow]:
    start = text.peek()
    if start == "[":
        yield from _array(text)
    elif start == "{":
        yield from _in_object(text, options)
    else:
        raise not_json(text.path, text.line, "a list of rows was expected")
    if text.peek():
        raise not_json(text.path, text.line, "text after the end of the data")


def _array(text: JsonText) -> Iterator[SourceRow]:
    text.take()
    if text.peek() == "]":
        text.take()
        return
    yield from _elements(text)


def _elements(text: JsonText) -> Iterator[SourceRow]:
    """The elements of an array up to its end."""
    while True:
        yield _element(text)
        mark = text.take()
        if mark == "]":
            return
        if mark != ",":
            raise not_json(text.path, text.line, "a comma or the end of the list is missing")


def _element(text: JsonText) -> SourceRow:
    """The next value as a row; a value that is not an object is a bad row."""
    text.peek()
    line, start = text.line, text.place
    value = text.value()
    done = text.done
    if not isinstance(value, dict):
        return bad_row(line, text.path, not_object(text.path, line, value), done, start)
    return SourceRow(line, value, done, text.path, None, start, text.remark())


def _in_object(text: JsonText, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of the only array of objects in an object."""
    found = ""
    mark = text.take()
    if text.peek() == "}":
        text.take()
        mark = "}"
    while mark != "}":
        key = text.value()
        if text.take() != ":":
            raise not_json(text.path, text.line, "a colon is missing")
        if text.peek() == "[":
            if found:
                raise bad_file(
                    text.path,
                    f"contains two lists, “{found}” and “{key}”",
                    "Keep one list of rows in the file.",
                    "two_lists",
                    line=text.line,
                )
            found = str(key)
            yield from _array(text)
        else:
            text.value()
        mark = text.take()
        if mark not in {",", "}"}:
            raise not_json(text.path, text.line, "a comma or the end of the object is missing")
    if not found:
        raise bad_file(
            text.path,
            "is one object without a list of rows",
            "Put the rows into a list: [{...}, {...}].",
            "no_list",
        )
    options.note(
        f"{text.path.name} contains one object; its rows were read from the list “{found}”."
    )
