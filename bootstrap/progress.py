"""Shows what the set-up is doing: a line per phase, and the current package.

Why: the first start takes minutes, and silence looks like a hang. On a terminal the last line is
rewritten in place; elsewhere every step is a plain line. All of it goes to standard error.
"""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

HEARTBEAT_S = 30.0
TAIL_LINES = 25


@dataclass
class Progress:
    """Elapsed time and the current line of one set-up."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    started_at: float = field(default_factory=time.monotonic)
    current: str = ""

    def elapsed(self) -> str:
        return f"[{time.monotonic() - self.started_at:4.0f} s]"

    def phase(self, text: str) -> None:
        """Begin a phase: always a line of its own."""
        self._clear()
        self.current = text
        print(f"{self.elapsed()} {text}", file=self.stream, flush=True)

    def detail(self, text: str) -> None:
        """Show the current package."""
        self.current = text
        if self.stream.isatty():
            self.tick()
        else:
            print(f"{self.elapsed()}   {text}", file=self.stream, flush=True)

    def tick(self) -> None:
        """Rewrite the last line of a terminal with the elapsed time."""
        if self.stream.isatty():
            line = f"{self.elapsed()}   {self.current}"[: _columns() - 1]
            self.stream.write("\r\x1b[2K" + line)
            self.stream.flush()

    def heartbeat(self) -> None:
        """Print a line from time to time where lines cannot be rewritten."""
        if not self.stream.isatty():
            print(f"{self.elapsed()}   still working: {self.current}", file=self.stream, flush=True)

    def _clear(self) -> None:
        if self.stream.isatty():
            self.stream.write("\r\x1b[2K")


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def pip_detail(line: str) -> str | None:
    """The current package according to a line of pip's output, or None."""
    line = line.strip()
    match = re.match(r"(Collecting|Building wheel for|Processing) (\S+)", line)
    if match:
        return f"{match.group(1).lower()} {match.group(2).rsplit('/', 1)[-1]}"
    match = re.match(r"(?:Downloading|Using cached) (\S+)( \([^)]*\))?", line)
    if match:
        return f"downloading {match.group(1).rsplit('/', 1)[-1]}{match.group(2) or ''}"
    if line.startswith("Installing collected packages:"):
        names = line.partition(":")[2].split(",")
        return f"unpacking {len(names)} packages" if len(names) > 1 else f"unpacking{names[0]}"
    return None


def apt_detail(line: str) -> str | None:
    """The same for apt-get."""
    match = re.match(r"(Get:\S+|Unpacking|Setting up) (.*)", line.strip())
    return f"{match.group(1).partition(':')[0].lower()} {match.group(2)}" if match else None


def run(
    command: Sequence[str],
    progress: Progress,
    detail: Callable[[str], str | None] = pip_detail,
    environment: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> tuple[int, str]:
    """Run `command`, show its steps, and return its exit status and the tail of its output.

    `keep_open` are file descriptors that the child holds too: the lock stays taken until the
    last child of a killed set-up is gone.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **(environment or {})},
        pass_fds=tuple(keep_open) if os.name == "posix" else (),
    )
    try:
        return _follow(process, progress, detail)
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()


def _follow(
    process: subprocess.Popen[str], progress: Progress, detail: Callable[[str], str | None]
) -> tuple[int, str]:
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    shown_at = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            progress.tick()
            if time.monotonic() - shown_at > HEARTBEAT_S:
                progress.heartbeat()
                shown_at = time.monotonic()
            continue
        if line is None:
            return process.wait(), "".join(tail)
        tail.append(line)
        text = detail(line)
        if text:
            progress.detail(text)
            shown_at = time.monotonic()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put(line)
    lines.put(None)
