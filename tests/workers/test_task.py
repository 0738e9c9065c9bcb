"""One-off tasks: results arrive on the main thread, errors are never lost."""

from __future__ import annotations

import threading
import time

from PySide6.QtCore import QObject, Slot
from shiboken6 import delete

from workers.task import run_task, wait_for_tasks


class Receiver(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[object, bool]] = []

    @Slot(object)
    def take(self, value: object) -> None:
        self.got.append((value, threading.current_thread() is threading.main_thread()))


def test_the_result_arrives_on_the_main_thread(qtbot) -> None:
    receiver = Receiver()
    where: list[bool] = []
    run_task(lambda: threading.current_thread() is threading.main_thread(), receiver.take)
    run_task(
        lambda: 1, lambda _: where.append(threading.current_thread() is threading.main_thread())
    )
    qtbot.waitUntil(lambda: bool(receiver.got and where))
    assert receiver.got == [(False, True)]
    assert where == [True]


def test_none_is_a_result(qtbot) -> None:
    receiver = Receiver()
    run_task(lambda: None, receiver.take)
    qtbot.waitUntil(lambda: bool(receiver.got))
    assert receiver.got == [(None, True)]


def test_an_error_arrives_where_it_is_wanted(qtbot) -> None:
    receiver = Receiver()
    run_task(lambda: 1 / 0, None, receiver.take)
    qtbot.waitUntil(lambda: bool(receiver.got))
    assert isinstance(receiver.got[0][0], ZeroDivisionError)


def test_an_error_that_nobody_wants_is_shown(qtbot) -> None:
    with qtbot.captureExceptions() as caught:
        run_task(lambda: 1 / 0)
        qtbot.waitUntil(lambda: bool(caught))
    assert caught[0][0] is ZeroDivisionError


def test_a_destroyed_receiver_and_a_cancelled_task_are_left_alone(qtbot) -> None:
    gone, receiver = Receiver(), Receiver()
    run_task(lambda: time.sleep(0.1), gone.take)
    run_task(lambda: time.sleep(0.1), receiver.take).cancel()
    delete(gone)
    done = Receiver()
    run_task(lambda: time.sleep(0.2), done.take)
    qtbot.waitUntil(lambda: bool(done.got))
    assert receiver.got == []


def test_many_at_once(qtbot) -> None:
    receiver = Receiver()
    for number in range(200):
        run_task(lambda n=number: n, receiver.take)
    qtbot.waitUntil(lambda: len(receiver.got) == 200)
    assert sorted(v for v, _ in receiver.got) == list(range(200))


def test_waiting_before_the_program_ends(qtbot) -> None:
    receiver = Receiver()
    run_task(lambda: time.sleep(0.2), receiver.take)
    assert wait_for_tasks()
    qtbot.wait(50)
    assert receiver.got == []
