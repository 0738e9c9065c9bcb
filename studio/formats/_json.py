"""JSON files: one array of objects, or one object that holds one array of objects.

Read as a stream: only the element that is being parsed is in memory. A file of JSON lines that is
called .json is read as such.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from studio.formats._jsonl import not_json, not_object, read_jsonl, refuse_constant
from studio.formats._source import SourceRow, bad_file

_CHUNK = 1 << 16
_LARGEST = 256 * 1024 * 1024
_MARGIN = 64  # a failure this close to the end of the buffer may be a cut, not an error
_DECODER = json.JSONDecoder(parse_constant=refuse_constant)


class _QuickEnd(Exception):
    """The quick look has used up its bytes."""


class _Text:
    """The file's text from the parser's place on, with the line number of that place."""

    def __init__(self, file: BinaryIO, path: Path, limit: int | None) -> None:
        self.path = path
        self.line = 1
        self.done = 0
        self._file = file
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._buffer = ""
        self._ended = False

    def _more(self) -> None:
        if self._limit is not None and self.done >= self._limit:
            raise _QuickEnd
        raw = self._file.read(max(_CHUNK, len(self._buffer)))
        self.done += len(raw)
        try:
            self._buffer += self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = self.line + self._buffer.count("\n") + raw[: error.start].count(b"\n")
            raise bad_file(
                self.path,
                "is not UTF-8 text",
                "Save the file as UTF-8.",
                "wrong_encoding",
                line=line,
            ) from error
        self._ended = not raw

    def peek(self) -> str:
        """The next character that is not a blank; empty at the end of the file."""
        while True:
            rest = self._buffer.lstrip(" \t\r\n")
            self._skip(len(self._buffer) - len(rest))
            if rest or self._ended:
                return rest[:1]
            self._more()

    def take(self) -> str:
        """Like ``peek``, and go past it."""
        found = self.peek()
        self._skip(len(found))
        return found

    def _skip(self, count: int) -> None:
        self.line += self._buffer.count("\n", 0, count)
        self._buffer = self._buffer[count:]

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer)
                if end < len(self._buffer) or self._ended:
                    self._skip(end)
                    return value
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    line = self.line + self._buffer.count("\n", 0, error.pos)
                    reason = f"{error.msg}, column {error.colno}"
                    raise not_json(self.path, line, reason) from error
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise not_json(self.path, self.line, reason) from error
            if len(self._buffer) > _LARGEST:
                raise not_json(self.path, self.line, "an element without an end")
            self._more()

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        cut_string = error.msg.startswith("Unterminated string")
        return cut_string or error.pos >= len(self._buffer) - _MARGIN


def read_json(path: Path, limit: int | None) -> Iterator[SourceRow]:
    """The objects of the file's one array; raises ``StudioError`` with the true line."""
    if _is_lines(path):
        yield from read_jsonl(path, limit)
        return
    with path.open("rb") as file:
        try:
            yield from _rows(_Text(file, path, limit))
        except _QuickEnd:
            return


def _is_lines(path: Path) -> bool:
    """Whether the first line is a whole object and another one follows."""
    with path.open("rb") as file:
        first, second = file.readline(_LARGEST), file.readline(_LARGEST)
    if not second.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _rows(text: _Text) -> Iterator[SourceRow]:
    start = text.peek()
    if start == "[":
        yield from _array(text)
    elif start == "{":
        yield from _in_object(text)
    else:
        raise not_json(text.path, text.line, "a list of rows was expected")
    if text.peek():
        raise not_json(text.path, text.line, "more text after the end of the data")


def _array(text: _Text) -> Iterator[SourceRow]:
    text.take()
    if text.peek() == "]":
        text.take()
        return
    while True:
        text.peek()
        line = text.line
        value = text.value()
        if not isinstance(value, dict):
            raise not_object(text.path, line, value)
        yield SourceRow(line, value, text.done)
        mark = text.take()
        if mark == "]":
            return
        if mark != ",":
            raise not_json(text.path, text.line, "a comma or the end of the list is missing")


def _in_object(text: _Text) -> Iterator[SourceRow]:
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
                    text.path, f"holds two lists, “{found}” and “{key}”",
                    "Keep one list of rows in the file.", "two_lists", line=text.line,
                )  # fmt: skip
            found = str(key)
            yield from _array(text)
        else:
            text.value()
        mark = text.take()
        if mark not in {",", "}"}:
            raise not_json(text.path, text.line, "a comma or the end of the object is missing")
    if not found:
        raise bad_file(
            text.path, "is one object without a list of rows",
            "Put the rows into a list: [{...}, {...}].", "no_list",
        )  # fmt: skip
