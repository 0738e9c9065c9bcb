"""Stop at any moment of any kind of step: it ends, no orphan, no half result, one end.

Steps that never look at the stop request are ended by the host's watcher after 6 s; one that even
keeps the watcher from running is ended from outside after 9 s. The runs go side by side.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from studio.runs import host
from studio.runs.control import STOP_LIMIT_S
from studio.runs.watch import KILL_AFTER_S, Watch
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import finished, follow
from tests.timing import wait_until

STOPPED = 3
"""The exit code of a host that ends by itself; one that is killed has another."""
STUCK = ("check", "sleep", "child", "busy", "orphan", "loop", "gil")


def _stop_while(how: str, place: Path) -> dict[str, object]:
    """Stop a run that is stuck in this way; returns what happened."""
    place.mkdir()
    run = toy_runs.folder(place, block={"how": how})
    process = host.start(run)
    watch = Watch(run, process)
    follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    helpers = {"child": 1, "busy": 1, "orphan": 2}.get(how, 0)
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= helpers)
    session = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    watch.stop()
    follow(watch)
    return {
        "how": how,
        "status": watch.status,
        "code": process.poll(),
        "run": run,
        "session": session,
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Every kind of stuck step, stopped side by side."""
    place = tmp_path_factory.mktemp("stops")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(STUCK)) as pool:
        patch.setenv("LORA_STUDIO_EXTENSIONS", "tests.studio.runs.toys")
        return {r["how"]: r for r in pool.map(lambda h: _stop_while(h, place / h), STUCK)}


@pytest.mark.parametrize("how", STUCK)
def test_stop(stopped: dict[str, dict], how: str) -> None:
    result = stopped[how]
    run = result["run"]
    assert result["status"] == "stopped"
    assert result["code"] is not None, "the host is still there"
    overdue = "did not stop in time" in run.log_path.read_text(encoding="utf-8")
    if how == "check":  # it looks at the stop request
        assert (result["code"], overdue) == (STOPPED, False)
    else:  # by the host's watcher or, where that gets no processor, from outside
        assert overdue or result["code"] != STOPPED
    assert finished(run) == ["stopped"]
    assert run.status() == "stopped"
    assert not list(run.artifacts.glob(".*")), "a half result"
    assert not list(run.artifacts.glob("block*"))
    assert not (run.path / "reserve").exists()
    assert not run.is_running()
    alive = [p for p in result["session"] if psutil.pid_exists(p)]
    assert [p for p in alive if psutil.Process(p).status() != psutil.STATUS_ZOMBIE] == []


def test_a_stop_is_enforced_within_ten_seconds() -> None:
    assert STOP_LIMIT_S < KILL_AFTER_S["stop"] < 10.0


def test_a_stop_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toy_runs.folder(tmp_path)
    watch = Watch(run, host.start(run))
    watch.stop()
    follow(watch)
    assert watch.status in ("stopped", "completed")
    assert finished(run) == [watch.status]


def test_kill_counts_as_stopped(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "child"})
    process = host.start(run)
    watch = Watch(run, process)
    follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    watch.kill()
    follow(watch)
    assert watch.status == "stopped"
    assert process.poll() not in (None, STOPPED)
    assert finished(run) == ["stopped"]


def test_a_stop_from_another_process(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    starter = toy_runs.start(run)
    follow(starter, until=lambda e: e.name == "Phase" and e.node == "block")
    attached = Watch(run)
    attached.stop()
    follow(attached)
    follow(starter)
    assert (starter.status, attached.status) == ("stopped", "stopped")
    assert finished(run) == ["stopped"]
