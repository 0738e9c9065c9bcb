"""The helper process that renders templates: started when first needed, ended at any moment.

Why: a template comes from a project file or from a downloaded model, and may loop for ever. A process
can be ended whatever it does; a thread cannot. The process ends by itself when a template takes too
long (see ``render_host``), and with the one that started it. On Linux the system bounds its memory;
elsewhere a thread of this program watches it. What is asked is up to the caller.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from studio.system.children import NO_WINDOW, UTF8, end_with_us, is_closed_pipe

_HOST = Path(__file__).with_name("render_host.py")
_TIMED_OUT = (
    (-signal.SIGALRM,)
    if hasattr(signal, "SIGALRM")
    else (1, 0xC0000005)  # the watchdog of faulthandler, and its crash
)
_NO_MEMORY = 4
"""Exit codes of the helper."""
WATCHED = sys.platform != "linux"
MOST_BYTES = 1 << 30
_LOOK_EVERY_S = 0.02


class HelperEnded(Exception):
    """The process ended without a reply: ``slow`` if a template took too long. The text is a reason
    that follows the name of the template."""

    def __init__(self, why: str, *, slow: bool = False) -> None:
        super().__init__(why)
        self.why, self.slow = why, slow


class HelperProcess:
    """One process; threads take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies = 0
        self._busy = threading.Event()
        self._too_large: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def exchange(self, request: str) -> Any:
        """The reply to a JSON request. Raises ``HelperEnded``.

        A reply may say ``memory``: the process reached its limit, perhaps because of what it keeps of
        earlier templates. A new process then answers this request again, and the next ones.
        """
        with self._lock:
            used = self._replies > 0
            reply = self._exchanged(request)
            if isinstance(reply, dict) and reply.get("memory"):
                self.close()
                reply = self._exchanged(request) if used else reply
            return reply

    def _exchanged(self, request: str) -> Any:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        self._busy.set()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError as error:
            if not is_closed_pipe(error):
                raise
        finally:
            self._busy.clear()
        if line.endswith("\n"):
            self._replies += 1
            return json.loads(line)
        raise self._ended(process)

    def _ended(self, process: subprocess.Popen[str]) -> HelperEnded:
        code = process.wait()
        too_large = process is self._too_large or code == _NO_MEMORY
        self.close()
        if too_large:
            return HelperEnded("needs too much memory")
        if code in _TIMED_OUT:
            return HelperEnded("takes too long", slow=True)
        return HelperEnded("ends the process that renders templates")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_HOST)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env={**os.environ, **UTF8},
                creationflags=NO_WINDOW,
            )
            end_with_us(self._process)
            if WATCHED:
                threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
        return self._process

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Kill the process when it takes too much memory. It is looked at during requests only."""
        import psutil

        with contextlib.suppress(psutil.Error):
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                if self._busy.wait(1.0) and watched.memory_info().rss > MOST_BYTES:
                    self._too_large = process
                    process.kill()
                time.sleep(_LOOK_EVERY_S)

    def close(self) -> None:
        """End the process; the next request starts another."""
        process, self._process = self._process, None
        self._replies = 0
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


PLAIN = HelperProcess()
"""The process for templates of rows, and for the names in any template."""
