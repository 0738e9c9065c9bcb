"""Run folders with damaged, absurd or odd files: read without an error, and resumed or refused in words."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.events import event, from_line
from studio.runs import host
from studio.runs.control import CommandReader
from studio.runs.environment import write_environment
from studio.runs.folder import RunFolder, list_runs
from studio.runs.follow import EventReader
from studio.runs.lock import HostLock, is_locked
from studio.runs.state import RunState
from tests.damaged import DEEP, FIELDS, KINDS, TEXTS, VALUES, put, unix
from tests.run_state import read_state
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import calls, events_of, finished, follow, start


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has not started."""
    return toy_runs.folder(tmp_path)


# ------------------------------------------------------------------ the lock


@unix
@pytest.mark.parametrize("kind", KINDS)
def test_odd_locks_do_not_end_a_run(run: RunFolder, kind: str) -> None:
    """What cannot be a lock is renamed; nothing outside the folder is opened or made."""
    put(run.lock_path, kind)
    assert not run.is_running()
    lock = HostLock(run.lock_path)
    assert lock.acquire()
    assert run.is_running()
    assert run.lock_path.is_file()
    assert not run.lock_path.is_symlink()
    lock.release()
    assert not is_locked(run.lock_path)
    assert len(list(run.path.glob("host.lock.*.unusable"))) == 1


@unix
def test_a_run_with_a_folder_as_lock_completes(run: RunFolder) -> None:
    put(run.lock_path, "folder")
    follow(start(run))
    assert finished(run) == ["completed"]


@unix
def test_a_lock_that_cannot_be_taken_is_reported(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system without locks: not “another host runs”."""

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(os, "lockf", refuse)
    with pytest.raises(OSError, match="No locks"):
        HostLock(run.lock_path).acquire()


# ------------------------------------------------------------------ host.json, environment.json


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        '{"pid": 1e999, "created": 1}',
        '{"pid": -1, "created": 1}',
        '{"pid": 0, "created": 1}',
        '{"pid": 1, "created": 1}',
        '{"pid": 99999999999999999999, "created": 1}',
        '{"pid": 12345, "created": NaN}',
        '{"pid": 12345, "created": 1e999}',
        '{"pid": [], "created": {}}',
        '{"pid": "x", "created": null}',
    ],
)
def test_an_absurd_host_is_ignored(run: RunFolder, text: str) -> None:
    run.host_path.write_text(text, encoding="utf-8")
    assert host.host_of(run) is None
    host.kill(run)


@pytest.mark.parametrize(
    "threads", [0, -4, 10**9, 10**400, 1.5, True, "8", None, [], {"a": 1}, "nan"]
)
def test_absurd_threads_are_not_used(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, threads: Any
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run.environment_path.write_text(json.dumps({"threads": threads}), encoding="utf-8")
    assert host.set_threads(run, leave_core=True) == host.hardware.planned_threads(True)


def test_a_sane_number_of_threads_is_kept(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run.environment_path.write_text('{"threads": 3}', encoding="utf-8")
    assert host.set_threads(run, leave_core=True) == 3


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        '{"earlier": 5}',
        '{"earlier": "text"}',
        '{"earlier": {"a": 1}}',
        '{"earlier": null, "packages": 7, "seeds": []}',
        '{"threads": NaN, "device": ["x"], "cpu_count": {}}',
    ],
)
def test_an_absurd_environment_is_replaced(run: RunFolder, text: str) -> None:
    run.environment_path.write_text(text, encoding="utf-8")
    assert isinstance(run.environment(), dict)
    write_environment(run, run.plan(), 1)
    assert run.environment()["threads"] == 1
    assert isinstance(run.environment().get("earlier", []), list)


def test_a_run_with_absurd_files_is_resumed(tmp_path: Path, run: RunFolder) -> None:
    """All of them at once, in a real host."""
    follow(start(run))
    run.environment_path.write_text('{"threads": 1e999, "earlier": 5}', encoding="utf-8")
    run.host_path.write_text('{"pid": -1, "created": NaN}', encoding="utf-8")
    run.commands_path.write_text(f'{DEEP}\n[]\n{{"command": 5}}\n\x00\n', encoding="utf-8")
    for path in run.steps.iterdir():
        path.write_text(DEEP, encoding="utf-8")
    with run.events_path.open("a", encoding="utf-8") as file:
        file.write(f'{DEEP}\n{{"event": [], "time": 1e999}}\n\x00\n')
    events = follow(start(run))
    assert finished(run) == ["completed", "completed"]
    (notice,) = [e for e in events if e.name == "Notice"]
    assert "environment.json has no valid number of threads" in notice.get("sentence")
    assert calls(tmp_path) == ["source", "train", "block", "export"] * 2


# ------------------------------------------------------------------ plan.json


def change_step(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plan: plan["steps"][1].update(changes)


PLANS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version too large": lambda p: p.update(version=1e999),
    "version null": lambda p: p.update(version=None),
    "no steps": lambda p: p.pop("steps"),
    "steps as number": lambda p: p.update(steps=5),
    "steps of texts": lambda p: p.update(steps=["x"]),
    "steps in another order": lambda p: p["steps"].reverse(),
    "a step twice": lambda p: p["steps"].append(p["steps"][0]),
    "a missing step": lambda p: p["steps"].pop(0),
    "settings as text": change_step(settings="x"),
    "settings as list": change_step(settings=[1]),
    "inputs as list": change_step(inputs=["x"]),
    "inputs of numbers": change_step(inputs={"dataset": 5}),
    "inputs from nowhere": change_step(inputs={"dataset": ["nowhere", "dataset"]}),
    "fingerprint as path": change_step(fingerprint="../../../etc/passwd"),
    "fingerprint empty": change_step(fingerprint=""),
    "version of a step": change_step(version="x"),
    "project folder as number": lambda p: p.update(project_dir=5),
}


@pytest.mark.parametrize("how", PLANS)
def test_an_absurd_plan_is_refused_in_words(run: RunFolder, how: str) -> None:
    data = json.loads(run.plan_path.read_text(encoding="utf-8"))
    PLANS[how](data)
    run.plan_path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(StudioError, match=r"plan\.json is damaged"):
        run.plan()


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_is_not_a_plan(tmp_path: Path, run: RunFolder, text: str) -> None:
    run.plan_path.write_text(text, encoding="utf-8")
    with pytest.raises(StudioError, match=r"plan\.json"):
        run.plan()
    assert [r.id for r in list_runs(tmp_path / "runs")] == [run.id]


# ------------------------------------------------------------------ records


def first_record(run: RunFolder) -> Path:
    (path,) = (
        p for p in run.steps.iterdir() if '"node": "source"' in p.read_text(encoding="utf-8")
    )
    return path


def test_every_flipped_bit_of_a_record_is_harmless(run: RunFolder) -> None:
    """The step is reused with what it made, or runs again."""
    from studio.runs.records import find_hit

    follow(start(run))
    step, path = run.plan().steps[0], first_record(run)
    whole, known = path.read_bytes(), find_hit(run, run.plan().steps[0])
    assert known.kind == "ready"
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        hit = find_hit(run, step)
        assert hit.kind == "none" or hit == known or without_sha256(path), bit


def without_sha256(path: Path) -> bool:
    """A flip in the key of the hash leaves a record as an earlier version wrote it."""
    return "sha256" not in json.loads(path.read_bytes())


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "size too large": lambda r: r.update(files=[["x", 1e999, 1]]),
    "a file with NUL": lambda r: r.update(files=[["a\0b", 1, 1]]),
    "files as number": lambda r: r.update(files=5),
    "files of texts": lambda r: r.update(files=["abc"]),
    "seconds as text": lambda r: r.update(seconds="x"),
    "no outputs": lambda r: r.update(outputs={}),
    "a model without a path": lambda r: r["outputs"].update(dataset={"kind": "model"}),
    "a dataset with another shape": lambda r: r["outputs"].update(
        dataset={"kind": "dataset", "path": [], "shape": "round"}
    ),
    "outputs as list": lambda r: r.update(outputs=[1]),
    "artifacts of numbers": lambda r: r.update(artifacts=[5]),
    "another fingerprint": lambda r: r.update(fingerprint="0" * 64),
    "evaluations null": lambda r: r.update(evaluations=None),
}


@pytest.mark.parametrize("how", RECORDS)
def test_absurd_records_are_not_reused(tmp_path: Path, run: RunFolder, how: str) -> None:
    assert toy_runs.run_here(run) == "completed"
    path = first_record(run)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["sha256"]
    RECORDS[how](data)
    path.write_text(json.dumps(data), encoding="utf-8")
    for other in run.steps.iterdir():
        if other != path:
            other.unlink()
    assert toy_runs.run_here(run) == "completed"
    assert calls(tmp_path).count("source") == 2


def test_records_of_earlier_versions_are_reused(tmp_path: Path, run: RunFolder) -> None:
    assert toy_runs.run_here(run) == "completed"
    for path in run.steps.iterdir():
        data = json.loads(path.read_text(encoding="utf-8"))
        del data["sha256"]
        path.write_text(json.dumps(data), encoding="utf-8")
    assert toy_runs.run_here(run) == "completed"
    assert calls(tmp_path) == ["source", "train", "block", "export"]


# ------------------------------------------------------------------ events and commands


def test_events_with_absurd_fields_are_read(tmp_path: Path) -> None:
    """Every event with every kind of value in every field: the state can be read and shown."""
    from studio.cli.report import Reporter, evaluation_table, progress_line
    from studio.events import EVENTS
    from studio.runs.progress import progress_of

    for value in VALUES:
        state = RunState()
        reporter = Reporter(state)
        for name in EVENTS:
            data = {"event": name, "time": 1.0, "node": "a", **dict.fromkeys(FIELDS, value)}
            found = from_line(json.dumps(data).encode())
            assert found is not None
            state.apply(found)
            reporter.tell(found)
        state.status, state.current = "running", "a"
        progress = progress_of(state, time.time())
        assert progress is not None
        assert progress.trail
        assert progress_line(progress, state.node("a"))
        for evaluation in state.evaluations.values():
            assert evaluation_table(evaluation)


@pytest.mark.parametrize(
    "line",
    [
        *TEXTS,
        '{"event": "Notice", "time": 1e999}',
        '{"event": "Notice", "time": NaN}',
        '{"event": "Notice", "time": -5}',
        '{"event": "Notice", "time": 1e15}',
        '{"event": "Notice", "time": %s}' % ("9" * 400),
        '{"event": "Notice", "time": 1, "node": ["a"]}',
        '{"event": "Notice", "time": 1, "node": {}}',
        '{"event": "Notice", "time": null}',
        '{"time": 1}',
    ],
)
def test_lines_that_are_not_events_are_skipped(run: RunFolder, line: str) -> None:
    run.events_path.write_text(line + "\n", encoding="utf-8")
    run.append(event("RunStarted", run="x", name="y", nodes=[]))
    assert [e.name for e in events_of(run)] == ["RunStarted"]
    assert read_state(run).name == "y"
    assert run.finished_status() is None


@pytest.mark.parametrize("line", [*TEXTS, '{"command": 5}', '{"command": null}'])
def test_lines_that_are_not_commands_are_skipped(run: RunFolder, line: str) -> None:
    run.commands_path.write_text(line + "\n", encoding="utf-8")
    run.command("stop")
    assert [c["command"] for c in CommandReader(run.commands_path, 0).read()] == ["stop"]


@unix
@pytest.mark.parametrize("kind", KINDS)
def test_odd_files_in_place_of_those_of_a_run(tmp_path: Path, run: RunFolder, kind: str) -> None:
    """Reading never waits and never fails."""
    for path in (run.events_path, run.commands_path, run.environment_path, run.host_path):
        put(path, kind)
    assert EventReader(run.events_path).read() == []
    assert CommandReader(run.commands_path, 0).read() == []
    assert (run.environment(), host.host_of(run), run.finished_status()) == ({}, None, None)
    put(run.plan_path, kind)
    with pytest.raises(StudioError, match=r"plan\.json"):
        run.plan()
    assert isinstance(list_runs(tmp_path / "runs"), list)


@unix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["events.jsonl", "host.log", "host.json", "environment.json", "reserve", "steps", "artifacts"],
)
def test_what_is_in_the_way_of_a_run_is_named(run: RunFolder, name: str, kind: str) -> None:
    """The run completes, or fails with a sentence that names it and what to do; no trace, no “bug”."""
    path = run.path / name
    put(path, "file" if path.is_dir() and kind == "folder" else kind)
    watch = start(run)
    failed = [e for e in follow(watch) if e.name == "StepFailed"]
    assert watch.status == ("failed" if failed else "completed")
    for found in failed:
        assert found.get("code") != "bug"
        assert name in found.get("sentence")
        assert name in ("steps", "artifacts") or "Rename or remove" in found.get("hint")
        assert found.get("hint")


@unix
@pytest.mark.parametrize("kind", KINDS)
def test_commands_that_cannot_be_written_are_reported(run: RunFolder, kind: str) -> None:
    """A pipe without a reader would wait forever, and a device would take the command."""
    put(run.commands_path, kind)
    with pytest.raises(OSError, match=r"commands\.jsonl"):
        run.command("stop")


@unix
@pytest.mark.parametrize(
    "name",
    [
        *("events.jsonl", "commands.jsonl", "host.log", "host.json"),
        *("host.lock", "environment.json", "reserve"),
    ],
)
def test_a_link_in_a_run_folder_changes_nothing_outside(
    tmp_path: Path, run: RunFolder, name: str
) -> None:
    """A received run folder may contain a link to any file of the user."""
    outside = tmp_path / "outside"
    outside.write_text("text of the user", encoding="utf-8")
    (run.path / name).symlink_to(outside)
    watch = start(run)
    with contextlib.suppress(OSError):
        run.command("save")
    follow(watch)
    assert outside.read_text(encoding="utf-8") == "text of the user"
