"""Parses a JSON document value by value from a stream, with line and byte offset of each value.

Only the current value is in memory.
"""

from __future__ import annotations

import codecs
import json
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import Any

from studio.data.reading.input import Input, not_utf8
from studio.data.reading.jsonl import Parser, not_json

_CHUNK = 1 << 16
_LARGEST = 256 * 1024 * 1024
_MARGIN = 64  # this close to the end of the buffer, a failure may be due to missing text


class QuickEnd(Exception):
    """The quick check has read its maximum number of bytes."""


class JsonText:
    """The text from the parser's position on; ``line`` and ``place`` (a byte offset) are that position."""

    def __init__(
        self, source: Input, limit: int | None, start: int | None = None, line: int = 1
    ) -> None:
        self.path = source.path
        self.line = line
        self.place = source.base if start is None else start
        self._source = source
        self._limit = limit
        if start is not None:
            source.file.seek(start)
        self._parser = Parser()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._at = 0
        self._column = 0  # characters of the current line before the buffer
        self._ended = False
        self._read = 0

    @property
    def done(self) -> int:
        """The bytes of the file on disk that are processed."""
        return self._source.done(self.place)

    def remark(self) -> str:
        """What was tolerated in the last values."""
        return self._parser.remark()

    def _more(self) -> None:
        if self._limit is not None and self._read >= self._limit:
            raise QuickEnd
        rest = len(self._buffer) - self._at
        raw = self._source.file.read(max(_CHUNK, rest))
        self._read += len(raw)
        self._forget()
        try:
            self._buffer += self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            line = self.line + self._buffer.count("\n") + error.object[: error.start].count(b"\n")
            raise not_utf8(self.path, line) from error
        self._ended = not raw

    def _forget(self) -> None:
        """Discard the text before the position."""
        newline = self._buffer.rfind("\n", 0, self._at)
        self._column = self._at - newline - 1 if newline >= 0 else self._column + self._at
        self._buffer = self._buffer[self._at :]
        self._at = 0

    def peek(self) -> str:
        """The next character that is not whitespace; empty at the end of the file."""
        while True:
            self._skip(WHITESPACE.match(self._buffer, self._at).end())
            if self._at < len(self._buffer) or self._ended:
                return self._buffer[self._at : self._at + 1]
            self._more()

    def take(self) -> str:
        """Like ``peek``, and advance past it."""
        found = self.peek()
        self._skip(self._at + len(found))
        return found

    def _skip(self, end: int) -> None:
        passed = self._buffer[self._at : end]
        self.line += passed.count("\n")
        self.place += len(passed) if passed.isascii() else len(passed.encode("utf-8"))
        self._at = end

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        while True:
            try:
                value, end = self._parser.decoder.raw_decode(self._buffer, self._at)
                if end < len(self._buffer) or self._ended:
                    self._skip(end)
                    return value
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._broken(error) from error
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise not_json(self.path, self.line, reason) from error
            if len(self._buffer) - self._at > _LARGEST:
                raise not_json(self.path, self.line, "an element that does not end")
            self._more()

    def _broken(self, error: json.JSONDecodeError) -> Exception:
        line = self.line + self._buffer.count("\n", self._at, error.pos)
        newline = self._buffer.rfind("\n", 0, error.pos)
        column = error.pos - newline if newline >= 0 else self._column + error.pos + 1
        return not_json(self.path, line, f"{error.msg}, column {column}")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        cut_string = error.msg.startswith("Unterminated string")
        return cut_string or error.pos >= len(self._buffer) - _MARGIN
