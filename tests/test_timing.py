"""Limits of time in tests: they are kept, exceeded, and scaled to the machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tests import timing
from tests.timing import cpu_limit, slowness, wait_until

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def compute(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_waiting_is_free_and_computing_is_not() -> None:
    with cpu_limit(0.2):
        time.sleep(0.4)
    with pytest.raises(AssertionError, match="of processor time"), cpu_limit(0.01):
        compute(0.02 * slowness() * 10)


def test_children_are_counted_where_they_are_meant() -> None:
    with cpu_limit(0.4):
        subprocess.run([sys.executable, "-c", BUSY], check=True)
    with pytest.raises(AssertionError), cpu_limit(0.01, children=True):
        subprocess.run([sys.executable, "-c", BUSY], check=True)


def test_a_slow_machine_is_allowed_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "UNIT_S", timing.UNIT_S / 1000)
    with cpu_limit(0.01):
        compute(0.1)


def test_a_wait_ends_with_its_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = threading.Event()
    threading.Timer(0.05, happened.set).start()
    wait_until(happened.is_set)
    assert happened.is_set()
    monkeypatch.setattr(timing, "WAIT_S", 0.05)
    with pytest.raises(AssertionError, match="the moon"):
        wait_until(lambda: False, "the moon")
