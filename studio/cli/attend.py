"""Follow a run in the terminal until it ends: print its events, handle Ctrl+C.

The first Ctrl+C (or SIGTERM, or on Windows Ctrl+Break or a closed console) asks for a stop and waits; the second
ends the host at once. A closed output pipe ends the run too, as for any other program.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from studio.cli.report import Reporter
from studio.runs.processes import stop_signals
from studio.runs.state import RunState
from studio.runs.watch import Watch
from studio.system.children import is_closed_pipe
from studio.system.windows import on_console_close

BEAT_S = 0.05


class _Interrupts:
    """Counts requests to stop; the loop acts on them."""

    def __init__(self) -> None:
        self.count = 0
        self.done = 0

    def __call__(self, *_: object) -> None:
        self.count += 1


@contextmanager
def _caught() -> Iterator[_Interrupts]:
    interrupts = _Interrupts()
    on_console_close(interrupts)
    before = {name: signal.signal(name, interrupts) for name in stop_signals()}
    try:
        yield interrupts
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def attend(
    begin: Callable[[], Watch], *, as_json: bool, quiet: bool = False
) -> tuple[str, RunState]:
    """Follow a run to its end; returns its status and state. Events from before a resume update the
    state but are not printed again. Ctrl+C is handled from the start."""
    state = RunState()
    with _caught() as interrupts:
        watch = begin()
        for event in watch.catch_up():
            state.apply(event)
        reporter = Reporter(state)
        while watch.status is None:
            try:
                _obey(interrupts, watch, as_json)
                _tell_more(watch, state, reporter, as_json, quiet)
            except OSError as error:
                if is_closed_pipe(error):
                    _wind_up(watch)
                raise
            if watch.status is None:
                time.sleep(BEAT_S)
        reporter.close()
    if watch.status == "interrupted":
        state.interrupt(state.last_time)
    return watch.status, state


def _tell_more(
    watch: Watch, state: RunState, reporter: Reporter, as_json: bool, quiet: bool
) -> None:
    for event in watch.poll():
        state.apply(event)
        if as_json:
            sys.stdout.write(event.to_line())
        elif not quiet:
            reporter.tell(event)
    sys.stdout.flush()


def _obey(interrupts: _Interrupts, watch: Watch, as_json: bool) -> None:
    if interrupts.count == interrupts.done:
        return
    first = interrupts.done == 0
    interrupts.done = interrupts.count
    out = sys.stderr if as_json else sys.stdout
    if first:
        watch.stop()
        print("\nStopping. Press Ctrl+C again to terminate immediately.", file=out, flush=True)
    else:
        watch.kill()


def _wind_up(watch: Watch) -> None:
    watch.stop()
    while watch.status is None:
        watch.poll()
        time.sleep(BEAT_S)
