"""The run host as a process: how it runs, what it leaves, what it takes over on resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from studio.events import Event
from studio.runs import host, processes
from studio.runs.lock import HostLock
from studio.runs.watch import Watch
from studio.system import hardware
from tests.run_state import read_state
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import calls, events_of, finished, follow, names, start
from tests.timing import WAIT_S


def test_a_run_in_its_own_process(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    watch = start(run)
    events = follow(watch)
    assert watch.status == "completed"
    assert names(events) == names(events_of(run))
    assert events[0].get("pid") != os.getpid()
    assert finished(run) == ["completed"]
    assert not run.is_running()
    environment = run.environment()
    assert environment["threads"] == events[0].get("threads")
    assert environment["packages"]["pydantic"]
    assert environment["seeds"] == {"source": 0}
    assert not (run.path / "reserve").exists()


def test_it_marks_the_environment_as_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set-up that would change packages waits for it."""
    run, held = toy_runs.folder(tmp_path), []

    def hold(what: str) -> None:
        held.append(what)
        raise InterruptedError

    monkeypatch.setattr(host.in_use, "hold", hold)
    with pytest.raises(InterruptedError):
        host._hold(run, host.Control(), host.CommandReader(run.commands_path, 0), False)
    assert held == [f"the run {run.id}"]


@pytest.mark.parametrize("low_priority", [False, True])
def test_it_leads_a_session_has_its_priority_and_loads_no_torch(
    tmp_path: Path, low_priority: bool
) -> None:
    """A run of the window lets other programs go first, one of the terminal does not."""
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    watch = Watch.start(run, low_priority=low_priority)
    events = follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    process = psutil.Process(events[0].get("pid"))
    assert os.getsid(process.pid) == process.pid
    usual = psutil.Process().nice()
    assert process.nice() == (min(19, usual + processes.LOW_PRIORITY) if low_priority else usual)
    shared = Path(f"/proc/{process.pid}/autogroup")
    if low_priority and shared.exists():
        assert shared.read_text(encoding="ascii").split()[-1] == str(processes.LOW_PRIORITY)
    assert process.environ()["LORA_STUDIO_EXTENSIONS"]
    assert not [m for m in process.memory_maps() if "libtorch" in m.path]
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.is_running()
    process.send_signal(signal.SIGTERM)
    follow(watch)
    assert watch.status == "stopped"
    assert finished(run) == ["stopped"]


@pytest.mark.parametrize(
    ("how", "code", "status"),
    [("no", 0, "completed"), ("studio_error", 1, "failed"), ("fail", 1, "failed")],
)
def test_exit_codes(tmp_path: Path, how: str, code: int, status: str) -> None:
    run = toy_runs.folder(tmp_path, block={"how": how})
    process = host.start(run)
    assert process.wait(WAIT_S) == code
    assert run.status() == status
    if how == "fail":
        assert "a bug in a toy" in run.log_path.read_text(encoding="utf-8")


def test_by_hand_from_any_folder(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    root = str(Path(host.__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "studio.runs.host", str(run.path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert run.status() == "completed"


def test_threads_leave_a_core_and_stay_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_runs.folder(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # left by a launcher of distributed runs
    monkeypatch.setattr(host.hardware, "cpu_count", lambda: 8)
    assert host.set_threads(run, leave_core=True) == 7
    assert "WORLD_SIZE" not in os.environ
    assert host.set_threads(run, leave_core=False) == 7  # what the process was given stays
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert host.set_threads(run, leave_core=False) == 8
    run.environment_path.write_text(json.dumps({"threads": 3}), encoding="utf-8")
    assert host.set_threads(run, leave_core=True) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run.environment_path.unlink()
    assert host.set_threads(run, leave_core=False) == 5  # what the user asks for
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "")  # put back by monkeypatch


def test_a_second_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toy_runs.folder(tmp_path)
    lock = HostLock(run.lock_path)
    assert lock.acquire()
    try:
        code = "import studio.runs.host as h, sys; h.LOCK_PATIENCE_S = 0.3; sys.exit(h.main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(run.path)],
            timeout=WAIT_S,
            check=False,
            cwd=Path(host.__file__).resolve().parents[2],
        )
        assert done.returncode == 1
        assert "another host runs" in run.log_path.read_text(encoding="utf-8")
        assert events_of(run) == []
    finally:
        lock.release()


def test_a_damaged_plan_is_told(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.plan_path.write_text("{}", encoding="utf-8")
    watch = start(run)
    events = follow(watch)
    assert watch.status == "failed"
    assert names(events) == ["RunStarted", "StepFailed", "RunFinished"]
    assert "plan.json is damaged" in events[1].get("sentence")
    state = read_state(run)
    assert state.failure is not None
    assert state.status == "failed"


def test_a_command_before_the_host_is_up_counts(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 1000, "pause": 0.05})
    run.command("stop")  # from an earlier life of this run
    watch = start(run)
    watch.stop()
    follow(watch)
    assert watch.status == "stopped"
    assert "train" not in calls(tmp_path) or read_state(run).nodes["train"].state == "stopped"
    watch = start(run)
    follow(watch, until=lambda e: e.name == "Metric")
    watch.stop()
    follow(watch)
    assert finished(run) == ["stopped", "stopped"]


def test_helpers_that_a_step_forgets_are_ended(tmp_path: Path) -> None:
    before = toy_runs.children()
    run = toy_runs.folder(tmp_path, block={"how": "quit"})
    watch = start(run)
    follow(watch)
    assert watch.status == "completed"
    assert toy_runs.children() <= before


def test_attaching_to_a_finished_run_reads_it(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    toy_runs.run_here(run)
    watch = Watch(run)
    assert names(follow(watch))[-1] == "RunFinished"
    assert watch.status == "completed"


def test_a_run_that_continues_on_another_device_says_so(tmp_path: Path) -> None:
    """A card that was removed, or one that was added."""
    run = toy_runs.folder(tmp_path)
    now = hardware.describe_cpu()
    for before, said in (("NVIDIA L4, 22 GiB", True), (now, False), (None, False), (["x"], False)):
        run.environment_path.write_text(json.dumps({"device": before}), encoding="utf-8")
        events: list[Event] = []
        host._tell_other_device(run, SimpleNamespace(emit=events.append))  # type: ignore[arg-type]
        assert bool(events) is said
        if said:
            sentence = events[0].get("sentence")
            assert f"on NVIDIA L4, 22 GiB before and continues on {now}" in sentence
