"""Two parties at one run, and processes that are not ours: nobody is ended by mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from studio.events import event
from studio.runs import host, watch
from studio.runs.control import Control
from studio.runs.watch import Watch
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import finished, follow, start

DAEMON = "import os, subprocess; os.setsid(); print(os.getpid(), subprocess.Popen(['sleep', '60'], stdout=2).pid)"


def test_a_daemon_with_the_number_of_a_dead_host_lives_on(tmp_path: Path) -> None:
    """After a restart a dead host's process id may be the session of somebody's daemon."""
    made = subprocess.run(
        [sys.executable, "-c", DAEMON],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    session, daemon = map(int, made.stdout.split())
    try:
        assert os.getsid(daemon) == session
        run = toy_runs.folder(tmp_path)
        run.host_path.write_text(json.dumps({"pid": session, "created": 1.0}), encoding="utf-8")
        follow(start(run))
        assert finished(run) == ["completed"]
        assert psutil.pid_exists(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_second_start_follows_the_host_that_has_the_run(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    first = start(run)
    follow(first, until=lambda e: e.name == "Phase" and e.node == "block")
    second = start(run)
    refused = second._process
    assert refused is not None
    assert refused.wait(30) == 1
    second.poll()
    second.poll()
    assert second.status is None
    second.stop()
    follow(second)
    follow(first)
    assert (first.status, second.status, finished(run)) == ("stopped", "stopped", ["stopped"])


def test_two_that_stop_a_stuck_run_tell_its_end_once(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    first = start(run)
    events = follow(first, until=lambda e: e.name == "Phase" and e.node == "block")
    watches = [first, Watch(run), Watch(run)]
    for one in watches[1:]:
        one.poll()
    for one in watches:
        one._asked = "stop"
    os.kill(events[0].get("pid"), signal.SIGKILL)
    threads = [threading.Thread(target=follow, args=(one,)) for one in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [one.status for one in watches] == ["stopped"] * 3
    assert finished(run) == ["stopped"]


def test_whoever_attaches_spares_a_host_that_takes_the_run_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LINGER_S", 0.1)
    run = toy_runs.folder(tmp_path)
    run.append(event("RunStarted", run=run.id, name="x", resumed=False, nodes=[], pid=1))
    run.append(event("RunFinished", status="stopped", seconds=0.0))
    code = (
        "import os, sys, time, psutil, json; from pathlib import Path\n"
        "from studio.runs.lock import HostLock; from studio.runs.folder import RunFolder\n"
        "run = RunFolder(Path(sys.argv[1])); assert HostLock(run.lock_path).acquire()\n"
        "made = psutil.Process().create_time()\n"
        "run.host_path.write_text(json.dumps({'pid': os.getpid(), 'created': made}))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    slow = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stdout=subprocess.PIPE,
        env=host._environment(run),
    )
    assert slow.stdout is not None
    with slow.stdout:
        slow.stdout.readline()
    try:
        attached = Watch(run)
        for _ in range(20):
            attached.poll()
            time.sleep(0.03)
        assert slow.poll() is None
        assert attached.status is None
    finally:
        slow.kill()
        slow.wait()
    follow(attached)
    assert attached.status == "stopped"


def test_a_signal_in_the_middle_of_a_command_does_not_hang() -> None:
    control = Control()
    answered = threading.Event()

    def interrupted() -> None:
        with control._lock:  # what a handler finds when it comes while a command is being taken
            control.request("stop")
        answered.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert answered.wait(5)
    assert control.stop_requested()
