"""What tests may say about time, so that a slow or busy machine fails no good test.

`cpu_limit` counts processor time, measures how fast the machine computes, and scales with it. It is
the only limit: no test looks at the clock. What must come is waited for, `WAIT_S` at most: a good
test ends such a wait at once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAIT_S = 600.0
WAIT_MS = int(WAIT_S * 1000)
UNIT_S = 0.002
"""What `_unit` takes on the machine for which limits are written (2 cores of an AMD EPYC, 2022)."""
POLL_S = 0.02


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for what another process or thread does."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(POLL_S)


@contextmanager
def cpu_limit(seconds: float, children: bool = False) -> Iterator[None]:
    """Fail when the block needs more processor time than `seconds` on the reference machine: time
    of this process or, with `children`, of the child processes that end within the block."""
    before = slowness()
    began = _cpu_s(children)
    yield
    used = _cpu_s(children) - began
    allowed = seconds * max(before, slowness())
    assert used <= allowed, f"took {used:.2f} s of processor time, {allowed:.2f} s are allowed here"


def slowness() -> float:
    """How many times slower than the reference this machine computes; 1 on faster ones."""
    times = sorted(_timed_unit() for _ in range(9))
    return max(1.0, times[4] / UNIT_S)


def _cpu_s(children: bool) -> float:
    if not children:
        return time.process_time()
    found = os.times()
    return found.children_user + found.children_system


def _timed_unit() -> float:
    began = time.process_time()
    _unit()
    return time.process_time() - began


def _unit() -> None:
    """A little work of the kind that most tests time: Python objects and text."""
    row = {"step": 1, "loss": 0.5, "name": "text", "list": [1, 2, 3]}
    for number in range(300):
        row["step"] = number
        json.loads(json.dumps(row))
