"""The run folder: ids, appending, commands, status, and folders that are damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.events import event
from studio.runs.control import CommandReader
from studio.runs.folder import RunFolder, file_name, find_run, list_runs
from studio.runs.follow import EventReader
from studio.runs.lock import HostLock
from tests.studio.runs import toy_runs


def test_many_at_once_get_ids_of_their_own(tmp_path: Path) -> None:
    plan, graph = toy_runs.plan(tmp_path), toy_runs.graph()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: RunFolder.create(tmp_path / "r", plan, graph), range(48)))
    assert len({f.id for f in made}) == 48
    assert {p.name for p in (tmp_path / "r").iterdir()} == {f.id for f in made}
    assert all(f.plan() == plan for f in made)
    assert all(f.graph().ids() == graph.ids() for f in made)


def test_newest_first_and_strangers_passed_over(tmp_path: Path) -> None:
    plan, graph = toy_runs.plan(tmp_path), toy_runs.graph()
    runs = tmp_path / "runs"
    made = [RunFolder.create(runs, plan, graph) for _ in range(12)]
    (runs / "holiday pictures").mkdir()
    (runs / "note.txt").write_text("not a run", encoding="utf-8")
    (runs / "20990101-000000-cut").mkdir()
    (runs / "20990101-000000-cut" / "plan.json").write_text('{"version"', encoding="utf-8")
    listed = [f.id for f in list_runs(runs)]
    assert listed[0] == "20990101-000000-cut"
    assert listed[1:] == [f.id for f in reversed(made)]
    assert list_runs(tmp_path / "nowhere") == []


def test_find_run_by_id_and_path(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    assert find_run(tmp_path / "runs", run.id).path == run.path
    assert find_run(tmp_path, str(run.path)).path == run.path
    with pytest.raises(StudioError, match="no run “x”") as caught:
        find_run(tmp_path / "runs", "x")
    assert run.id in caught.value.hint


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    with pytest.raises(StudioError, match="Cannot create"):
        toy_runs.folder(tmp_path)


def test_a_torn_line_is_closed_by_the_next(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.append(event("Notice", sentence="one"))
    with run.events_path.open("a", encoding="utf-8") as file:
        file.write('{"event": "Notice", "time": 1, "sent')
    reader = EventReader(run.events_path)
    assert [e.get("sentence") for e in reader.read()] == ["one"]
    run.append(event("Notice", sentence="two"))
    assert [e.get("sentence") for e in reader.read()] == ["two"]


def _append_many(path: Path, who: int) -> None:
    run = RunFolder(path)
    for number in range(300):
        run.append(event("Notice", sentence="x" * (number % 200), who=who, number=number))


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(run.path, w)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    got = [(e.get("who"), e.get("number")) for e in EventReader(run.events_path).read()]
    assert sorted(got) == [(w, n) for w in range(3) for n in range(300)]
    assert [n for w, n in got if w == 1] == list(range(300))


def test_commands_from_an_offset(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.command("stop")
    offset = run.commands_path.stat().st_size
    reader = CommandReader(run.commands_path, offset)
    assert reader.read() == []
    run.command("save", reason="asked")
    with run.commands_path.open("a", encoding="utf-8") as file:
        file.write('nonsense\n{"command": "sam')
    assert [(c["command"], c["reason"]) for c in reader.read()] == [("save", "asked")]
    with run.commands_path.open("a", encoding="utf-8") as file:
        file.write('ple"}\n')
    assert [c["command"] for c in reader.read()] == ["sample"]


def test_status_follows_events_and_lock(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    assert run.status() == "preparing"
    os.utime(run.plan_path, (time.time() - 60, time.time() - 60))
    assert run.status() == "interrupted"
    lock = HostLock(run.lock_path)
    assert lock.acquire()
    run.append(event("RunStarted", run=run.id))
    assert (run.status(), run.is_running()) == ("running", True)
    lock.release()
    assert (run.status(), run.is_running()) == ("interrupted", False)
    run.append(event("RunFinished", status="stopped"))
    assert run.status() == "stopped"
    run.append(event("RunStarted", run=run.id, resumed=True))
    assert run.status() == "interrupted"


def test_a_run_that_was_asked_to_end_is_stopping_until_it_has(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    lock = HostLock(run.lock_path)
    assert lock.acquire()
    run.command("stop")
    run.host_path.write_text("{}", encoding="utf-8")
    os.utime(run.host_path, (time.time() + 5, time.time() + 5))
    run.append(event("RunStarted", run=run.id))
    assert run.status() == "running"  # the command was for an earlier host
    os.utime(run.host_path, (time.time() - 5, time.time() - 5))
    assert run.status() == "stopping"
    lock.release()
    assert run.status() == "interrupted"
    run.append(event("RunFinished", status="stopped"))
    assert run.status() == "stopped"


@pytest.mark.parametrize(("command", "status"), [("save", "running"), ("suspend", "stopping")])
def test_which_commands_end_a_run(tmp_path: Path, command: str, status: str) -> None:
    run = toy_runs.folder(tmp_path)
    lock = HostLock(run.lock_path)
    assert lock.acquire()
    run.host_path.write_text("{}", encoding="utf-8")
    os.utime(run.host_path, (time.time() - 5, time.time() - 5))
    run.append(event("RunStarted", run=run.id))
    run.command(command)
    assert run.status() == status
    lock.release()


def test_a_notice_before_the_start_does_not_make_it_a_resumed_run(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.append(event("Notice", level="warning", sentence="The computer may go to sleep."))
    assert not run.has_started()
    toy_runs.run_here(run)
    toy_runs.run_here(run)
    lines = run.events_path.read_text(encoding="utf-8").splitlines()
    started = [e for e in map(json.loads, lines) if e["event"] == "RunStarted"]
    assert [e["resumed"] for e in started] == [False, True]


def _hold(path: Path, ready: object, go: object) -> None:
    lock = HostLock(path)
    assert lock.acquire()
    ready.set()  # type: ignore[attr-defined]
    go.wait(30)  # type: ignore[attr-defined]


def test_the_lock_is_seen_from_outside_and_freed_by_death(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(run.lock_path, ready, go))
    holder.start()
    assert ready.wait(30)
    for _ in range(100):  # asking does not disturb
        assert run.is_running()
    assert not HostLock(run.lock_path).acquire(0.1)
    holder.kill()
    holder.join()
    assert not run.is_running()
    again = HostLock(run.lock_path)
    assert again.acquire()
    again.release()


def test_node_ids_cannot_leave_the_run_folder(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    ids = ["a", "A", "../../etc", "con", "a.b", "", "ü", "a/b", "-x", "x" * 300]
    assert len({file_name(i) for i in ids}) == len(ids)
    for node in ids:
        assert run.checkpoints(node).resolve().parent == run.path / "checkpoints"
        assert run.staging(node).resolve().parent == run.artifacts
    assert file_name("train2") == "train2"


def test_a_damaged_environment_is_empty(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.environment_path.write_text("[1", encoding="utf-8")
    assert run.environment() == {}
    run.environment_path.write_text(json.dumps([1]), encoding="utf-8")
    assert run.environment() == {}
