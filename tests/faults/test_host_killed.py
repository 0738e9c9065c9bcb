"""A host or a follower that is killed: the run is interrupted or goes on, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from studio.events import Event
from studio.runs import host
from studio.runs.follow import EventReader
from studio.runs.watch import Watch
from tests.run_state import read_state
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import calls, events_of, finished, follow, start
from tests.timing import wait_until

ROOT = Path(__file__).resolve().parents[2]


def reached(node: str, name: str = "Phase"):
    return lambda e: e.name == name and e.node == node


def test_a_killed_host_is_interrupted_and_resumes(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 60, "pause": 0.02})
    watch = start(run)
    events = follow(watch, until=lambda e: e.name == "CheckpointSaved" and e.get("step") >= 10)
    os.kill(events[0].get("pid"), signal.SIGKILL)
    follow(watch)
    assert (watch.status, run.status(), finished(run)) == ("interrupted", "interrupted", [])
    state = read_state(run)
    assert (state.status, state.nodes["train"].state) == ("interrupted", "stopped")
    assert not list(run.artifacts.glob(".*"))
    watch = start(run)
    again = follow(watch)
    assert watch.status == "completed"
    assert calls(tmp_path) == ["source", "train", "train", "block", "export"]
    (resumed,) = [e for e in again if e.name == "TrainResumed"]
    assert resumed.get("step") >= 10
    assert list(read_state(run).metrics["train"].step) == list(range(1, 61))
    assert [e.get("resumed") for e in events_of(run) if e.name == "RunStarted"] == [False, True]
    assert finished(run) == ["completed"]


@pytest.mark.parametrize("how", ["child", "orphan"])
def test_helpers_of_a_killed_host_are_ended(tmp_path: Path, how: str) -> None:
    before = toy_runs.children()
    run = toy_runs.folder(tmp_path, block={"how": how})
    process = host.start(run)
    watch = Watch(run, process)
    follow(watch, until=reached("block"))
    wait_until(lambda: toy_runs.children() - before)
    left = toy_runs.children() - before
    if how == "orphan":  # one that left the session is out of reach once the host is dead
        escaped = {p for p in left if os.getsid(p) != process.pid}
        for pid in escaped:
            os.kill(pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    follow(watch)
    assert watch.status == "interrupted"
    wait_until(lambda: toy_runs.children() <= before)


def test_the_next_host_ends_what_nobody_followed(tmp_path: Path) -> None:
    before = toy_runs.children()
    run = toy_runs.folder(tmp_path, block={"how": "child"})
    process = host.start(run)
    reader = EventReader(run.events_path)
    wait_until(lambda: any(map(reached("block"), reader.read())))
    wait_until(lambda: toy_runs.children() - before)
    process.kill()
    process.wait()
    assert toy_runs.children() - before
    assert run.status() == "interrupted"
    orphan = toy_runs.children() - before
    watch = start(run)
    follow(watch, until=lambda e: e.name == "RunStarted" and e.get("resumed"))
    assert not orphan & toy_runs.children()
    watch.kill()
    follow(watch)
    assert toy_runs.children() <= before


def test_a_killed_follower_leaves_the_run_going(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 40, "pause": 0.05})
    follower = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from studio.cli import main; sys.exit(main(sys.argv[1:]))",
            "run",
            str(file),
            "--runs",
            str(tmp_path / "runs"),
        ],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    wait_until(
        lambda: any(
            '"Metric"' in p.read_text(encoding="utf-8")
            for p in tmp_path.glob("runs/*/events.jsonl")
        )
    )
    os.killpg(follower.pid, signal.SIGKILL)
    follower.wait()
    (path,) = (tmp_path / "runs").iterdir()
    run = toy_runs.RunFolder(path)
    assert run.status() == "running"
    attached = Watch(run)
    events = follow(attached)
    assert attached.status == "completed"
    assert (
        json.loads(run.events_path.read_text(encoding="utf-8").splitlines()[-1])["status"]
        == "completed"
    )
    assert len([e for e in events if e.name == "Metric"]) == 40


def test_a_run_is_never_resumed_into_its_own_half_results(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    staging = run.staging("block")
    staging.mkdir(parents=True)
    (staging / "half.bin").write_text("from a power cut", encoding="utf-8")
    watch = start(run)
    follow(watch)
    assert watch.status == "completed"
    assert not list(run.artifacts.glob(".*"))


def test_a_run_folder_that_vanishes_ends_the_watch(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    watch = start(run)
    events: list[Event] = follow(watch, until=reached("block"))
    pid = events[0].get("pid")
    shutil.rmtree(run.path)
    (failed,) = [e for e in follow(watch) if e.name == "StepFailed"]
    assert watch.status == "failed"
    assert str(run.path) in failed.get("sentence")
    assert "moved or deleted" in failed.get("hint")
    assert not psutil.pid_exists(pid)
