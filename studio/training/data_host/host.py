"""The data host: a process that keeps rows and tokenizer in memory to answer requests about them.

Requests and replies are defined in ``studio.preview.protocol``. Short requests are answered at
once; long ones are generators that advance in slices in between. The process ends at any time when
its standard input ends, and leaves no file behind. It never loads weights, and writes only below a
folder of its own and to the caches of models.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from studio.errors import Problem, Stopped
from studio.preview.protocol import Kind, line_of, message_in
from studio.runs.failures import as_studio_error
from studio.system import busy_files

Slices = Iterator[tuple[Kind, Mapping[str, Any]] | None]
"""A request in progress: yields replies, or ``None`` to let other requests advance."""

AT_ONCE = ("rows", "preview")
PATIENCE_S, END_WITHIN_S = 0.3, 1.0
_SELDOM = (5000, 20, 20)


def main() -> int:
    """Answer requests until standard input ends; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client handles Ctrl+C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # runs the clean-up
    answers = _answers_apart()
    with tempfile.TemporaryDirectory(prefix="lora-studio-", ignore_cleanup_errors=True) as work:
        Host(answers, Path(work)).serve(sys.stdin)
    return 0


def _answers_apart() -> IO[str]:
    """Reserve standard output for replies; the output of libraries goes to the log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


class Host:
    """The requests in progress. One thread reads them, the main thread answers them."""

    def __init__(self, answers: IO[str], work: Path) -> None:
        self._answers = answers
        self._asked: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._gone: set[int] = set()
        self._at_work: dict[int, Slices] = {}
        self._current = 0
        self._work = work
        self._session: Any = None
        self._ended = threading.Event()
        self._is_settled = False

    def serve(self, requests: IO[str]) -> None:
        """Answer requests until there are no more."""
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()
        from studio.training.data_host.session import Session

        self._session = Session(self._work, self._stopped, self._say)
        while True:
            try:
                request = self._asked.get(block=not self._at_work)
            except queue.Empty:
                self._advance_all()
                continue
            if request is None:
                self._ended.set()
                return
            self._take(request)

    def _read(self, requests: IO[str]) -> None:
        """The reading thread. It ends the process at the end of standard input, even during a long call."""
        for line in requests:
            request = message_in(line)
            if request is None or request.get("ask") == "close":
                continue
            if request.get("ask") == "cancel":
                self._gone.add(int(request["request"]))
            self._asked.put(request)
        self._asked.put(None)
        if not self._ended.wait(PATIENCE_S):
            signal.raise_signal(signal.SIGTERM)
            self._ended.wait(END_WITHIN_S)
            busy_files.tidy(self._work)
            os._exit(0)

    # -------------------------------------------------------------- requests

    def _take(self, request: Mapping[str, Any]) -> None:
        number, ask = int(request["id"]), str(request["ask"])
        if ask == "cancel":
            self._drop(int(request["request"]))
            return
        if ask == "open":
            for other in list(self._at_work):
                self._drop(other)
        answer: Callable[[Mapping[str, Any]], Slices] | None = getattr(self._session, ask, None)
        if ask.startswith("_") or answer is None:
            self._tell(number, "error", Problem(f"There is no request “{ask}”.").to_json())
            return
        self._at_work[number] = answer(request)
        while ask in AT_ONCE and not request.get("batch") and number in self._at_work:
            self._advance(number)

    def _advance_all(self) -> None:
        for number in list(self._at_work):
            self._advance(number)

    def _advance(self, number: int) -> None:
        """Advance a request by one slice; an error is its last reply."""
        self._current = number
        try:
            if number in self._gone:
                raise Stopped
            said = next(self._at_work[number])
        except Stopped:
            self._drop(number)
        except Exception as error:
            self._at_work.pop(number)
            self._rest()
            self._tell(number, "error", _problem(error, self._session.title, self._work))
        else:
            if said is not None and said[0] == "result":
                self._at_work.pop(number).close()  # type: ignore[attr-defined]
                self._rest()
            if said is not None:
                self._tell(number, said[0], said[1])
            if said is not None and said[0] == "result":
                self._settle()

    def _rest(self) -> None:
        """Without a request in progress, the files of the user are closed."""
        if not self._at_work:
            self._session.release()

    def _settle(self) -> None:
        """Exclude the objects of the libraries from later garbage collections, which take half a
        second and would delay replies.
        """
        if not self._is_settled:
            self._is_settled = True
            gc.freeze()
            gc.set_threshold(*_SELDOM)

    def _drop(self, number: int) -> None:
        slices = self._at_work.pop(number, None)
        if slices is not None:
            slices.close()  # type: ignore[attr-defined]
            self._rest()
            self._tell(number, "cancelled", {})
        self._gone.discard(number)

    def _stopped(self) -> bool:
        return self._current in self._gone

    # -------------------------------------------------------------- replies

    def _say(self, kind: Kind, data: Mapping[str, Any]) -> None:
        """Send a reply to the current request."""
        self._tell(self._current, kind, data)

    def _tell(self, number: int, kind: Kind, data: Mapping[str, Any]) -> None:
        self._answers.write(line_of({"id": number, "kind": kind, **data}))
        self._answers.flush()


def _problem(error: Exception, title: str, work: Path) -> Mapping[str, Any]:
    """An error as a ``Problem``; an unexpected one is also written to the log."""
    expected = as_studio_error(error, title, work)
    if expected is not None:
        return expected.problem().to_json()
    traceback.print_exc()
    sentence = f"{title or 'The data'}: {type(error).__name__}: {error}"
    return Problem(sentence, hint="This is a bug in LoRA Studio.", code="unexpected").to_json()


if __name__ == "__main__":
    sys.exit(main())
