"""The engine in this process: what runs, what is reused, and how every kind of end is reported."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from studio.events import Event
from studio.export_folder import llama_cpp
from studio.runs import folder
from studio.runs.control import Control
from studio.runs.execute import execute, needed_steps
from studio.runs.failures import failure
from studio.runs.folder import RunFolder
from studio.runs.records import Hit
from studio.runs.sink import EventSink
from tests.run_state import read_state
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import calls, events_of, finished, names, run_here

ALL = ["source", "train", "block", "export"]


def again(place: Path, **settings: dict) -> tuple[RunFolder, list[str]]:
    """Run once more in a new folder; returns it and the nodes that really ran."""
    before = len(calls(place))
    run = toy_runs.folder(place, **settings)
    assert run_here(run) == "completed"
    return run, calls(place)[before:]


def badges(run: RunFolder) -> list[str]:
    return [n.state for n in read_state(run).nodes.values()]


def test_a_place_that_may_not_be_used_is_no_bug(tmp_path: Path) -> None:
    reported = failure(
        OSError(errno.EROFS, "Read-only file system", "/mnt/x/model"), "Merge", tmp_path
    )
    assert reported["sentence"] == "Merge: cannot use /mnt/x/model: Read-only file system."
    assert "trace" not in reported


def test_a_whole_run(tmp_path: Path) -> None:
    run, ran = again(tmp_path)
    assert ran == ALL
    events = events_of(run)
    assert names(events)[0] == "RunStarted"
    assert names(events)[-1] == "RunFinished"
    assert events[0].get("name") == "Toy"
    assert [n["id"] for n in events[0].get("nodes")] == ALL
    assert [e.get("index") for e in events if e.name == "StepStarted"] == [1, 2, 3, 4]
    assert badges(run) == ["done"] * 4
    for event in events:
        if event.name == "ArtifactSaved":
            assert Path(event.get("path")).exists()
            assert Path(event.get("path")).is_absolute()
    text = run.events_path.read_text(encoding="utf-8") + "".join(
        p.read_text(encoding="utf-8") for p in run.steps.iterdir()
    )
    assert ".staging" not in text
    assert not list(run.artifacts.glob(".*"))


def test_an_unchanged_graph_runs_nothing(tmp_path: Path) -> None:
    first, _ = again(tmp_path)
    second, ran = again(tmp_path)
    assert ran == []
    assert badges(second) == ["skipped"] * 4
    saved = [
        [e.get("path") for e in events_of(r) if e.name == "ArtifactSaved"] for r in (first, second)
    ]
    assert saved[0] == saved[1]
    assert {e.get("cached") for e in events_of(second) if e.name == "StepFinished"} == {True}
    evaluations = [list(read_state(r).evaluations.values()) for r in (first, second)]
    assert evaluations[0]
    assert evaluations[1]
    assert [e["measures"] for e in evaluations[0]] == [e["measures"] for e in evaluations[1]]


def test_only_what_changed_runs(tmp_path: Path) -> None:
    again(tmp_path)
    _, ran = again(tmp_path, export={"folder": "out"})
    assert ran == ["export"]
    assert (tmp_path / "out" / "model.txt").exists()
    _, ran = again(tmp_path, train={"steps": 6})
    assert ran == ["train", "block", "export"]


def test_what_llama_cpp_could_not_prove_is_made_again_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the result is reused."""
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    unproven = {"how": "unproven"}
    again(tmp_path, block=unproven)
    _, ran = again(tmp_path, block=unproven, export={"folder": "out"})
    assert ran == ["export"]
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: True)
    _, ran = again(tmp_path, block=unproven, export={"folder": "elsewhere"})
    assert ran == ["block", "export"]


def test_a_result_that_was_cut_short_is_reused_by_its_own_run_only(tmp_path: Path) -> None:
    """A finished training, and everything made from it: another run does it as the settings say."""
    run, control = toy_runs.folder(tmp_path), Control()
    control.request("finish")
    assert run_here(run, control) == "completed"
    assert len([e for e in events_of(run) if e.name == "Metric"]) == 1
    (run.steps / f"{run.plan().steps[-1].fingerprint}.json").unlink()
    assert run_here(run) == "completed"
    assert calls(tmp_path) == [*ALL, "export"]
    _, ran = again(tmp_path)
    assert ran == ["train", "block", "export"]
    _, ran = again(tmp_path)
    assert ran == []


@pytest.mark.parametrize("node", ALL)
def test_a_deleted_result_is_made_again_and_nothing_else(tmp_path: Path, node: str) -> None:
    first, _ = again(tmp_path)
    (folder,) = first.artifacts.glob(f"{node}-*")
    shutil.rmtree(folder)
    _, ran = again(tmp_path)
    assert ran == [node]


def test_a_deleted_file_outside_is_made_again(tmp_path: Path) -> None:
    settings = {"export": {"folder": "out"}}
    again(tmp_path, **settings)
    (tmp_path / "out" / "foreign.txt").write_text("mine", encoding="utf-8")
    assert again(tmp_path, **settings)[1] == []
    (tmp_path / "out" / "model.txt").unlink()
    assert again(tmp_path, **settings)[1] == ["export"]


def test_an_overwritten_export_is_not_a_hit(tmp_path: Path) -> None:
    one = {"export": {"folder": "out"}, "train": {"steps": 3}}
    two = {"export": {"folder": "out"}, "train": {"steps": 4}}
    again(tmp_path, **one)
    text = (tmp_path / "out" / "model.txt").read_text(encoding="utf-8")
    time.sleep(0.01)
    again(tmp_path, **two)
    _, ran = again(tmp_path, **one)
    assert ran == ["export"]
    assert len((tmp_path / "out" / "model.txt").read_text(encoding="utf-8")) == len(text)


def test_inputs_that_nobody_needs_are_not_made(tmp_path: Path) -> None:
    first, _ = again(tmp_path)
    for node in ("source", "train"):  # as if their run had been deleted, records and all
        fingerprint = first.plan().step(node).fingerprint
        (first.steps / f"{fingerprint}.json").unlink()
    second, ran = again(tmp_path)
    assert ran == []
    assert badges(second) == ["skipped"] * 4


def test_damaged_records_are_no_hits(tmp_path: Path) -> None:
    first, _ = again(tmp_path)
    for path in first.steps.iterdir():
        path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert again(tmp_path)[1] == ALL


def test_needed_steps_of_a_branch(tmp_path: Path) -> None:
    plan = toy_runs.plan(tmp_path)
    ready, none, gone = Hit("ready"), Hit("none"), Hit("gone")
    assert needed_steps(plan, dict(zip(ALL, [none, none, ready, none], strict=True))) == {"export"}
    assert needed_steps(plan, dict(zip(ALL, [ready, gone, ready, ready], strict=True))) == {"train"}
    assert needed_steps(plan, dict(zip(ALL, [none, gone, ready, ready], strict=True))) == {
        "source",
        "train",
    }


@pytest.mark.allow_log
def test_a_bug_is_told_with_its_trace(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "fail"})
    assert run_here(run) == "failed"
    assert finished(run) == ["failed"]
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert (failed.node, failed.get("code")) == ("block", "bug")
    assert "RuntimeError: a bug in a toy" in failed.get("sentence")
    assert "toys.py" in failed.get("trace")
    assert badges(run) == ["done", "done", "failed", "waiting"]
    assert not list(run.artifacts.glob(".*"))
    assert not list(run.artifacts.glob("block*"))


@pytest.mark.allow_log
@pytest.mark.parametrize("how", ["exit", "bad_output"])
def test_strange_ends_of_a_step_are_failures(tmp_path: Path, how: str) -> None:
    run = toy_runs.folder(tmp_path, block={"how": how})
    assert run_here(run) == "failed"
    assert finished(run) == ["failed"]


def test_an_expected_error_keeps_its_words(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "studio_error"})
    assert run_here(run) == "failed"
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    wanted = {"sentence": "Block: The rows are no good.", "hint": "Mend them.", "field": "how"}
    assert {k: failed.get(k) for k in wanted} == wanted
    assert (failed.node, failed.get("code"), failed.get("line")) == ("block", "toy", 7)
    assert failed.get("trace") is None


@pytest.mark.parametrize(("wish", "status"), [("stop", "stopped"), ("suspend", "suspended")])
def test_a_wish_ends_the_run_and_it_can_go_on(tmp_path: Path, wish: str, status: str) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 200, "pause": 0.01})
    control = Control()
    threading.Timer(0.4, control.request, (wish,)).start()
    assert run_here(run, control) == status
    assert finished(run) == [status]
    assert badges(run) == ["done", "stopped", "waiting", "waiting"]
    assert not list(run.artifacts.glob(".*"))
    ran = len(calls(tmp_path))
    assert run_here(run) == "completed"
    assert calls(tmp_path)[ran:] == ["train", "block", "export"]
    state = read_state(run)
    assert list(state.metrics["train"].step) == list(range(1, 201))
    assert state.resumed
    assert finished(run) == [status, "completed"]


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("one", encoding="utf-8")
    run = toy_runs.folder(tmp_path, source={"file": "rows.txt"})
    (tmp_path / "rows.txt").write_text("another", encoding="utf-8")
    assert run_here(run) == "failed"
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert failed.get("code") == "changed_since_plan"
    assert calls(tmp_path) == []


def test_another_version_of_a_node_type_is_refused(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    data = json.loads(run.plan_path.read_text(encoding="utf-8"))
    data["steps"][1]["version"] = 9
    data["steps"][2]["type"] = "gone"
    run.plan_path.write_text(json.dumps(data), encoding="utf-8")
    assert run_here(run) == "failed"
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert (failed.node, failed.get("code")) == ("train", "other_version")


def test_memory_is_told_once_a_second(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, train={"steps": 25, "pause": 0.1})
    assert run_here(run) == "completed"
    readings = [e for e in events_of(run) if e.name == "Memory"]
    assert len(readings) in (2, 3)
    assert {e.node for e in readings} == {"train"}
    assert all(e.get("ram_process_gib") > 0 for e in readings)


def test_nothing_follows_the_end(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    sink = EventSink(run)
    status = execute(run.plan(), run, sink.emit, Control(), toy_runs.registry())
    sink.emit(Event("RunFinished", 1.0, None, {"status": "stopped"}))
    sink.emit(Event("Notice", 1.0, None, {"sentence": "late"}))
    assert status == "completed"
    assert finished(run) == ["completed"]
    assert names(events_of(run))[-1] == "RunFinished"


@pytest.mark.allow_log
def test_events_that_cannot_be_written_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = toy_runs.folder(tmp_path)
    monkeypatch.setattr(folder, "append_line", full)
    with pytest.raises(OSError, match="No space left"):
        run_here(run)
    assert calls(tmp_path) == []
