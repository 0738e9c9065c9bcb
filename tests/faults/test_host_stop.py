"""Stop at any moment of any kind of step: within 10 s, no orphan, no half result, one end.

Steps that never look at the stop request are ended by the host's watcher after 6 s; one that even
keeps the watcher from running is ended from outside after 9 s. The runs go side by side.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from studio.runs import host
from studio.runs.watch import Watch
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import finished, follow

STUCK = ("check", "sleep", "child", "busy", "orphan", "loop", "gil")


def _stop_while(how: str, place: Path) -> dict[str, object]:
    """Stop a run that is stuck in this way; returns what happened."""
    place.mkdir()
    run = toy_runs.folder(place, block={"how": how})
    process = host.start(run)
    watch = Watch(run, process)
    follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    time.sleep(0.5)
    session = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    asked = time.monotonic()
    watch.stop()
    follow(watch)
    return {
        "how": how,
        "status": watch.status,
        "took": time.monotonic() - asked,
        "run": run,
        "session": session,
        "host_gone": process.poll() is not None,
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
    assert result["took"] < (1.5 if how == "check" else 10.0)
    assert finished(run) == ["stopped"]
    assert run.status() == "stopped"
    assert not list(run.artifacts.glob(".*")), "a half result"
    assert not list(run.artifacts.glob("block*"))
    assert not (run.path / "reserve").exists()
    assert result["host_gone"]
    assert not run.is_running()
    alive = [p for p in result["session"] if psutil.pid_exists(p)]
    assert [p for p in alive if psutil.Process(p).status() != psutil.STATUS_ZOMBIE] == []


def test_a_stop_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toy_runs.folder(tmp_path)
    watch = Watch(run, host.start(run))
    watch.stop()
    follow(watch)
    assert watch.status in ("stopped", "completed")
    assert finished(run) == [watch.status]


def test_kill_counts_as_stopped(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "child"})
    watch = toy_runs.start(run)
    follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    asked = time.monotonic()
    watch.kill()
    follow(watch)
    assert watch.status == "stopped"
    assert time.monotonic() - asked < 3
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
