"""A call that is ended when it takes too long, without leaving this process.

Why: a chat template may loop on a single row, and a request to the process that renders templates
takes 0.8 ms where the rendering itself takes 0.15 ms. A thread looks at the clock four times a
second, and what has run through too many of these looks gets an exception, which ends any loop.
Looks are counted, not seconds, so that a process that was suspended is not taken for a slow one.

Two limits: a single operation that keeps the interpreter cannot be ended like this, and memory is
not bounded. ``chat_choice`` tries a template first in a process that can be ended. Rendering every
row there needs requests with all renders of several rows (0.19 ms each with 30 in one request) and
transformers' own environment for templates in that process.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

PATIENCE_S = 5.0
_LOOK_S = 0.25
_IDLE_LOOKS = 40
_SHORT_S, _AFTER = 1.0, 3  # after so many calls that were ended, the next ones have less time

Result = TypeVar("Result")


class TookTooLong(Exception):
    """The call was ended."""


class _Ended(BaseException):
    """What the call gets; nothing in it may catch that."""


class _Watch:
    """The calls at work by their thread, with the looks that each may still last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[int, int] = {}
        self._ended: set[int] = set()
        self._thread: threading.Thread | None = None

    def begin(self, thread: int, patience_s: float) -> None:
        """A call begins in a thread. This and ``end`` are all that a usual row costs."""
        self._looks[thread] = round(patience_s / _LOOK_S)
        if self._thread is None:
            with self._lock:
                self._thread = threading.Thread(target=self._look, daemon=True)
                self._thread.start()

    def end(self, thread: int) -> None:
        """The call is over; an exception that is still on its way to it is called back."""
        with self._lock:
            self._looks.pop(thread, None)
            if thread in self._ended:
                self._ended.discard(thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    def _look(self) -> None:
        idle = 0
        while idle < _IDLE_LOOKS:
            time.sleep(_LOOK_S)
            with self._lock:
                idle = 0 if self._looks else idle + 1
                for thread, looks in list(self._looks.items()):
                    self._looks[thread] = looks - 1
                    if looks < 0:
                        self._ended.add(thread)
                        raised = ctypes.py_object(_Ended)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
                if idle >= _IDLE_LOOKS:
                    self._thread = None


_watch = _Watch()
_ended: Counter[int] = Counter()


def bounded(call: Callable[[], Result], of: Hashable) -> Result:
    """What ``call`` returns; raises ``TookTooLong`` when it does not within ``PATIENCE_S``. After a few
    calls ``of`` the same template that were ended, the next ones have less time: nobody waits for
    each row of a file."""
    thread = threading.get_ident()
    try:
        try:
            often = bool(_ended) and _ended[hash(of)] >= _AFTER
            _watch.begin(thread, _SHORT_S if often else PATIENCE_S)
            return call()
        finally:
            _watch.end(thread)
    except _Ended:
        _watch.end(thread)
        _ended[hash(of)] += 1
        raise TookTooLong from None
