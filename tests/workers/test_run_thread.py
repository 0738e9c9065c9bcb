"""RunThread with a real Qt event loop and real run hosts."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QObject, QThread, Slot

from studio import events
from studio.events import Event
from studio.runs.catch_up import Earlier
from studio.runs.folder import RunFolder
from studio.runs.processes import LOW_PRIORITY
from studio.runs.state import RunState
from studio.system.hardware import planned_threads
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import events_of, finished, names
from tests.timing import WAIT_MS, cpu_limit
from workers import run_thread
from workers.run_thread import RunThread, detach_all, running_threads


class Screen(QObject):
    """What a window does with a run: a slot for batches and one for the end."""

    def __init__(self, thread: RunThread) -> None:
        super().__init__()
        self.state = RunState()
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.ends: list[str] = []
        self.strange_threads = 0
        self.read: list[float] = []
        thread.events.connect(self.take)
        thread.reading.connect(self.read.append)
        thread.earlier.connect(self.take_earlier)
        thread.ended.connect(self.end)

    @Slot(object)
    def take(self, batch: list[Event]) -> None:
        self._look()
        self.batches.append(len(batch))
        self.events += batch
        for event in batch:
            self.state.apply(event)

    @Slot(object)
    def take_earlier(self, earlier: Earlier) -> None:
        self._look()
        self.state = earlier.state

    @Slot(object)
    def end(self, status: str) -> None:
        self._look()
        self.ends.append(status)

    def _look(self) -> None:
        self.strange_threads += QThread.currentThread() is not self.thread()


def run_to_end(qtbot, thread: RunThread) -> Screen:
    screen = Screen(thread)
    thread.start()
    qtbot.waitUntil(lambda: bool(screen.ends))
    assert screen.strange_threads == 0
    assert not thread.isRunning()
    assert thread not in running_threads()
    return screen


def until(qtbot, screen: Screen, wanted: Callable[[Event], bool]) -> None:
    qtbot.waitUntil(lambda: any(map(wanted, screen.events)))


@pytest.mark.parametrize("mode", ["host", "thread"])
def test_a_run_from_start_to_end(qtbot, tmp_path: Path, mode: str) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 20, "pause": 0.01})
    screen = run_to_end(qtbot, RunThread(run, mode, registry=toy_runs.registry()))
    assert screen.ends == ["completed"]
    assert names(screen.events) == names(events_of(run))
    assert list(screen.state.metrics["train"].step) == list(range(1, 21))
    same_process = screen.events[0].get("pid") == os.getpid()
    assert same_process == (mode == "thread")
    assert run.environment()["packages"]["pydantic"]
    assert not run.is_running()


@pytest.mark.parametrize("leave_core", [False, True])
def test_a_run_of_the_window_has_low_priority_and_may_leave_a_core(
    qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave_core: bool
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run, leave_core=leave_core)
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    process = psutil.Process(screen.events[0].get("pid"))
    assert process.nice() == min(19, psutil.Process().nice() + LOW_PRIORITY)
    assert run.environment()["threads"] == planned_threads(leave_core)
    thread.stop()
    qtbot.waitUntil(lambda: screen.ends == ["stopped"])


@pytest.mark.parametrize("mode", ["host", "thread"])
@pytest.mark.parametrize("wish", ["stop", "suspend"])
def test_a_wish_ends_it(qtbot, tmp_path: Path, mode: str, wish: str) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run, mode, registry=toy_runs.registry())
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    getattr(thread, wish)()
    qtbot.waitUntil(lambda: bool(screen.ends))
    status = {"stop": "stopped", "suspend": "suspended"}[wish]
    assert (screen.ends, finished(run)) == ([status], [status])


def test_a_stop_at_once_is_not_lost(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run)
    screen = Screen(thread)
    thread.stop()
    thread.start()
    thread.stop()
    qtbot.waitUntil(lambda: bool(screen.ends))
    assert (screen.ends, finished(run)) == (["stopped"], ["stopped"])


def test_a_stop_just_before_the_window_closes_is_not_lost(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run)
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    thread.stop()
    thread.detach()
    qtbot.waitUntil(lambda: not thread.isRunning())
    qtbot.waitUntil(lambda: finished(run) == ["stopped"])


def test_a_run_on_the_thread_hears_other_terminals(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run, mode="thread", registry=toy_runs.registry())
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    run.command("stop")
    qtbot.waitUntil(lambda: screen.ends == ["stopped"])
    assert finished(run) == ["stopped"]


def test_a_killed_host_is_interrupted_and_goes_on(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 60, "pause": 0.03})
    thread = RunThread(run)
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "CheckpointSaved")
    os.kill(screen.events[0].get("pid"), signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(screen.ends))
    assert (screen.ends, finished(run)) == (["interrupted"], [])
    screen = run_to_end(qtbot, RunThread(run))
    assert screen.ends == ["completed"]
    assert list(screen.state.metrics["train"].step) == list(range(1, 61))
    assert screen.state.resumed


def test_detach_leaves_the_run_and_a_new_window_finds_it(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 60, "pause": 0.05})
    thread = RunThread(run)
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Metric")
    thread.detach()
    assert thread.wait(WAIT_MS)
    qtbot.waitUntil(lambda: thread not in running_threads())
    assert screen.ends == []
    assert run.status() == "running"
    screen = run_to_end(qtbot, RunThread(run, "attach"))
    assert screen.ends == ["completed"]
    assert list(screen.state.metrics["train"].step) == list(range(1, 61))


def test_an_attached_window_can_stop(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    watch = toy_runs.start(run)
    thread = RunThread(run, "attach")
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    thread.stop()
    qtbot.waitUntil(lambda: bool(screen.ends))
    toy_runs.follow(watch)
    assert (screen.ends, finished(run)) == (["stopped"], ["stopped"])


def test_a_reopened_run_is_read_to_its_end(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    toy_runs.run_here(run)
    screen = run_to_end(qtbot, RunThread(run, "attach"))
    assert screen.ends == ["completed"]


def test_a_forgotten_thread_lives_until_it_has_ended(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 10, "pause": 0.05})
    parent = QObject()
    thread = RunThread(run, parent=parent)
    screen = Screen(thread)
    thread.start()
    del thread, parent
    gc.collect()
    qtbot.waitUntil(lambda: bool(screen.ends))
    assert screen.ends == ["completed"]


def test_detach_all_before_the_program_ends(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    thread = RunThread(run)
    screen = Screen(thread)
    thread.start()
    until(qtbot, screen, lambda e: e.name == "Phase" and e.node == "block")
    detach_all()
    assert running_threads() == ()
    assert not thread.isRunning()
    assert run.is_running()
    watch = toy_runs.Watch(run)
    watch.stop()
    toy_runs.follow(watch)


def test_a_run_that_cannot_start_ends_too(qtbot, tmp_path: Path) -> None:
    """With a sentence that names the folder."""
    run = RunFolder(tmp_path / "nowhere")
    screen = run_to_end(qtbot, RunThread(run))
    assert screen.ends == ["failed"]
    (failed,) = [e for e in screen.events if e.name == "StepFailed"]
    assert str(run.path) in failed.get("sentence")


def test_200_events_a_second_come_in_batches(qtbot, tmp_path: Path) -> None:
    """At most one batch a beat, so that the window has its time for the user."""
    run = toy_runs.folder(tmp_path, train={"steps": 1000, "pause": 0.005, "save_every": 1000})
    began = time.monotonic()
    with cpu_limit(4.0):
        screen = run_to_end(qtbot, RunThread(run))
    beats = (time.monotonic() - began) / run_thread.BEAT_S
    assert screen.ends == ["completed"]
    assert len([e for e in screen.events if e.name == "Metric"]) == 1000
    assert len(screen.batches) <= 1.1 * beats + 1


class Rests(threading.Event):
    """Notes how long a thread meant to rest each time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        return super().wait(timeout)


def long_run(folder: Path) -> RunFolder:
    """A completed run of 20,000 steps."""
    run = toy_runs.folder(folder)
    toy_runs.run_here(run)
    lines = run.events_path.read_text(encoding="utf-8").splitlines(keepends=True)
    metric = next(line for line in lines if '"Metric"' in line)
    many = [metric.replace('"step": 1,', f'"step": {n},') for n in range(20_000)]
    run.events_path.write_text("".join([*lines[:-1], *many, lines[-1]]), encoding="utf-8")
    return run


def test_a_long_run_opens_at_once(qtbot, tmp_path: Path) -> None:
    """Its earlier events are reduced on the thread, which says how far it is."""
    screen = run_to_end(qtbot, RunThread(long_run(tmp_path), "attach"))
    assert screen.ends == ["completed"]
    assert screen.state.status == "completed"
    assert len(screen.state.metrics["train"].step) == 20_000
    assert len(screen.events) == 0
    assert screen.read
    assert screen.read == sorted(screen.read)
    assert max(screen.read) <= 1


def test_a_long_run_can_be_left_while_it_is_read(
    qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_thread, "REPORT_EVERY_S", 0.0)
    thread = RunThread(long_run(tmp_path), "attach")
    screen = Screen(thread)
    thread.reading.connect(lambda fraction: thread.detach())
    thread.start()
    qtbot.waitUntil(thread.isFinished)
    assert screen.ends == []
    assert screen.state.status == "preparing"


def test_a_long_run_goes_on_after_its_earlier_events(qtbot, tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 50, "pause": 0.02})
    watch = toy_runs.start(run)
    while not any(e.name == "Metric" for e in watch.poll()):
        time.sleep(0.01)
    notice = events.event("Notice", "train", sentence="x" * run_thread.MANY_BYTES).to_line()
    with run.events_path.open("a", encoding="utf-8") as file:
        file.write(notice)
    screen = run_to_end(qtbot, RunThread(run, "attach"))
    toy_runs.follow(watch)
    assert screen.ends == ["completed"]
    assert list(screen.state.metrics["train"].step) == [float(n) for n in range(1, 51)]
    assert 0 < len([e for e in screen.events if e.name == "Metric"]) < 50


def test_many_new_events_come_without_freezing(
    qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_thread, "MANY_BYTES", 1 << 40)
    thread = RunThread(long_run(tmp_path), "attach")
    thread._wake = rests = Rests()
    screen = run_to_end(qtbot, thread)
    assert len(screen.state.metrics["train"].step) == 20_000
    assert max(screen.batches) <= run_thread.BATCH
    assert rests.asked.count(run_thread.CATCH_UP_S) == 20_000 // run_thread.BATCH
    assert rests.asked.count(run_thread.BEAT_S) < 5  # it waits for no beat while it catches up
