"""Runs downloads and imports in a child process that can be stopped at once.

pip, the hub client and the GGUF reader cannot be interrupted from inside, and their memory is freed
when the process ends. The child belongs to our process group, so it never outlives the run. It
writes JSON lines to its standard output; other lines are collected as text.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import IO, Any

from studio.graph.context import StepContext
from studio.system.children import end_child, start_child
from studio.system.disk import what_to_do

POLL_S = 0.2
GRACE_S = 1.0
Message = Mapping[str, Any]


@dataclass
class Ended:
    """How a child ended: exit code, last JSON line, and the end of its standard error."""

    code: int
    said: Message
    last_words: str
    lines: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why the child failed: the error it reported, otherwise the last line of standard error."""
        words = self.last_words.splitlines() or ["no reason"]
        return str(self.said.get("error") or words[-1])

    @property
    def hint(self) -> str:
        """What to do, if the reason is an error of the system such as a full disk."""
        return what_to_do(RuntimeError(self.reason))


def python(*arguments: str) -> list[str]:
    """A command for this Python interpreter."""
    return [sys.executable, *arguments]


def run_child(
    context: StepContext,
    command: Sequence[str],
    *,
    on_message: Callable[[Message], None] = lambda message: None,
    tick: Callable[[list[str]], None] = lambda lines: None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run ``command`` to its end. ``on_message`` receives its JSON lines; ``tick`` is called at
    intervals.

    Raises ``Stopped``, after ending the child, when the user stops the run.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = start_child(command, errors, environment=environment)
        try:
            ended = _follow(context, process, on_message, tick)
        finally:
            end_child(process, GRACE_S)
        errors.seek(0)
        ended.last_words = errors.read()[-4000:].strip()
        return ended


def _follow(
    context: StepContext,
    process: subprocess.Popen[str],
    on_message: Callable[[Message], None],
    tick: Callable[[list[str]], None],
) -> Ended:
    ended = Ended(-1, {}, "")
    lines: SimpleQueue[str | None] = SimpleQueue()
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    while True:
        context.check()
        try:
            line = lines.get(timeout=POLL_S)
        except Empty:
            tick(ended.lines)
            continue
        if line is None:
            break
        message = _message(line)
        if message is None:
            ended.lines.append(line.rstrip())
        else:
            ended.said = message
            on_message(message)
    ended.code = process.wait()
    reader.join()
    return ended


def _read(stream: IO[str], lines: SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _message(line: str) -> Message | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
