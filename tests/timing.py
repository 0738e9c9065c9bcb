"""Limits of time that hold on every machine: a slow processor or a busy machine fails no good test.

`cpu_limit` counts the processor time of this process, `time_limit` the clock, for what other
processes do. Both measure while they count how slow the machine is, and scale with it.
`WAIT_S` is for what must come: a good test ends such a wait at once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAIT_S = 600.0
WAIT_MS = int(WAIT_S * 1000)
UNIT_S = 0.002
"""What `_unit` takes on the machine for which limits are written (2 cores of an AMD EPYC, 2022)."""
PAUSE_S = 0.02


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Fail when the block needs more processor time than `seconds` on the reference machine."""
    slowness = _slowness()
    began = time.process_time()
    yield
    used = time.process_time() - began
    allowed = seconds * max(slowness, _slowness())
    assert used <= allowed, f"took {used:.2f} s of processor time, {allowed:.2f} s are allowed here"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer than `seconds` would be on a machine that does nothing else.

    Not for work of this process, whose threads wait for each other: see `cpu_limit`.
    """
    ended = threading.Event()
    counted = [0.0]

    def count() -> None:
        while not ended.wait(PAUSE_S):  # a pause that is too long, too, shows a busy machine
            took = _timed(time.perf_counter)
            counted[0] += PAUSE_S * min(1.0, UNIT_S / took) + min(took, UNIT_S)

    counter = threading.Thread(target=count, daemon=True)
    counter.start()
    try:
        yield
    finally:
        ended.set()
        counter.join()
    assert counted[0] <= seconds, f"took {counted[0]:.1f} s, {seconds:.1f} s are allowed"


def _slowness() -> float:
    """How many times slower than the reference this machine computes; 1 on faster ones."""
    times = sorted(_timed(time.process_time) for _ in range(9))
    return max(1.0, times[4] / UNIT_S)


def _timed(clock: Callable[[], float]) -> float:
    began = clock()
    _unit()
    return clock() - began


def _unit() -> None:
    """A little work of the kind that most tests time: Python objects and text."""
    row = {"step": 1, "loss": 0.5, "name": "text", "list": [1, 2, 3]}
    for number in range(300):
        row["step"] = number
        json.loads(json.dumps(row))
