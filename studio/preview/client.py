"""The client of the data host: starts it, sends requests, and receives replies in a thread.

Used by the terminal (``replies``, which waits) and by the window (``ask``, with callbacks).
Requests and replies are defined in ``studio.preview.protocol``. No Qt and no torch here.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

from studio.preview.protocol import HOST_ENDED, MODULE, Reply, line_of, reply_in
from studio.system.children import module_command, start_child

Handler = Callable[[Reply], None]
GRACE_S = 1.5
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"}
_TAIL = 2000
_POLL_S = 0.1


class DataClient:
    """A connection to one data host, which is started by the first request.

    Callbacks are called in a thread of the client, one at a time, and must not block. When the host
    dies, every open request gets an ``error``; the next request starts a new host, which needs
    ``open`` again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Handler] = {}
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def __enter__(self) -> DataClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process id of the running host, if any."""
        return None if self._process is None else self._process.pid

    def ask(self, what: str, handler: Handler, **more: Any) -> int:
        """Send a request; ``handler`` receives its replies. Returns its id, for ``cancel``."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the data client is closed")
            number = next(self._numbers)
            process = self._running()
            self._waiting[number] = handler
            self._send(process, {"id": number, "ask": what, **more})
        return number

    def cancel(self, number: int) -> None:
        """Cancel a request; its last reply is ``cancelled`` unless it was already complete."""
        with self._lock:
            if number in self._waiting and self._process is not None:
                ask = {"id": next(self._numbers), "ask": "cancel", "request": number}
                self._send(self._process, ask)

    def replies(self, what: str, **more: Any) -> Iterator[Reply]:
        """Send a request and yield its replies. Closing the generator cancels the request."""
        heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        number = self.ask(what, heard.put, **more)
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    reply = heard.get(timeout=_POLL_S)
                    yield reply
                    if reply.last:
                        return
        finally:
            self.cancel(number)

    def close(self) -> None:
        """End the host and drop all requests; no callback is called after this."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(GRACE_S)

    # -------------------------------------------------------------- the process

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
            process = start_child(module_command(MODULE), log, asked=True, environment=_ENVIRONMENT)
            self._process = process
            self._thread = threading.Thread(
                target=self._listen, args=(process, log), name="data-client", daemon=True
            )
            self._thread.start()
        return self._process

    def _send(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(
            BrokenPipeError, OSError, ValueError
        ):  # the reader reports its end
            process.stdin.write(line_of(message))
            process.stdin.flush()

    def _listen(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        """The thread: dispatches replies to callbacks until the host ends."""
        assert process.stdout is not None
        with log, process.stdout:
            for line in process.stdout:
                reply = reply_in(line)
                if reply is not None:
                    self._hand_on(reply)
            code = process.wait()
            self._host_ended(process, code, _tail(log))

    def _hand_on(self, reply: Reply) -> None:
        with self._lock:
            handler = self._waiting.get(reply.id)
            if reply.last:
                self._waiting.pop(reply.id, None)
        if handler is not None:
            handler(reply)

    def _host_ended(self, process: subprocess.Popen[str], code: int, tail: str) -> None:
        with self._lock:
            if self._process is not process:
                return
            self._process = None
            waiting, self._waiting = self._waiting, {}
        _end(process)
        problem = {
            "sentence": f"The helper process that reads the data exited with code {code}.",
            "hint": f"Its last output: {tail}" if tail else "Try again: it will be restarted.",
            "code": HOST_ENDED,
        }
        for number, handler in waiting.items():
            handler(Reply(number, "error", problem))


def _tail(log: IO[str]) -> str:
    """The last lines of the host's log, on one line."""
    log.seek(0)
    lines = [line.strip() for line in log.read()[-_TAIL:].splitlines() if line.strip()]
    return " · ".join(lines[-3:])


def _end(process: subprocess.Popen[str]) -> None:
    """Close the host's input, which asks it to end, and kill it if it does not."""
    with contextlib.suppress(OSError, ValueError):
        assert process.stdin is not None
        process.stdin.close()
    for force in (process.terminate, process.kill):
        try:
            process.wait(GRACE_S)
            return
        except subprocess.TimeoutExpired:
            force()
    process.wait()
