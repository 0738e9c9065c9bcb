"""Standard output and error of a command: control characters of received text never reach the terminal.

Everything that a command prints passes through here, because names, sentences and paths of a project can come
from anyone. Only what this program draws itself, colours and the progress line, is written with ``draw``.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from studio.shown_text import plain

_KEPT = "\n\t"


class SafeOutput:
    """A text stream whose ``write`` escapes control characters, except line ends and tabs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text that may contain anything."""
        self._stream.write(plain(text, _KEPT))
        return len(text)

    def draw(self, text: str) -> None:
        """Write a text that this program made, with its control characters."""
        self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_output() -> Iterator[None]:
    """Within the block, everything that is printed is safe for the terminal. Characters that its encoding lacks are
    escaped; without standard output, nothing is printed."""
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream if isinstance(stream, SafeOutput) else SafeOutput(stream))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def draw(text: str, *, error: bool = False) -> None:
    """Write a text with the control characters of this program: colours, the start of the line. Received text in it
    must have been escaped."""
    stream = sys.stderr if error else sys.stdout
    write = stream.draw if isinstance(stream, SafeOutput) else stream.write
    write(text)
