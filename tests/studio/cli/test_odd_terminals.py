"""Odd terminals and moments: early Ctrl+C, narrow encodings, file names that are not UTF-8."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from studio.cli import main
from studio.events import Event
from studio.graph.graph import Graph, Node
from studio.graph.project import load_project, save_project
from studio.runs.folder import RunFolder, append_line
from studio.runs.host import start as start_host
from tests.missing_here import odd_name
from tests.studio.cli.test_cli import COMMAND, only_run, rows, start, studio
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import finished
from tests.timing import WAIT_S, wait_until


def test_ctrl_c_before_the_run_begins_ends_with_3(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endless.txt")  # its fingerprint takes for ever
    file = toy_runs.project(tmp_path, source={"file": "endless.txt"})
    process = start("run", file, "--runs", tmp_path / "runs")
    pipe = os.open(tmp_path / "endless.txt", os.O_WRONLY)  # once the other end is being read
    process.send_signal(signal.SIGINT)
    os.close(pipe)  # a signal between two system calls leaves the next one waiting
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err.strip()) == (3, "", "Stopped.")
    assert not (tmp_path / "runs").exists()


def test_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    file = tmp_path / "é.studio"
    toy_runs.project(tmp_path, source={"file": "日本.txt"}).rename(file)
    (tmp_path / "日本.txt").write_text("x", encoding="utf-8")
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for flag in ([], ["--json"]):
        process = subprocess.run(
            [*COMMAND, "check", str(file), *flag, "--set", "source.seed=-1"],
            capture_output=True,
            encoding="utf-8",
            env=ascii_only,
        )
        assert process.returncode == 2, process.stderr
        assert "Traceback" not in process.stderr
        assert flag == [] or json.loads(process.stdout)["node"] == "source"


def test_a_project_in_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    place = tmp_path / odd_name(b"caf\xe9")
    place.mkdir()
    file = toy_runs.project(place, train={"steps": 2})
    save_project(file, load_project(file))
    code, out, err = studio("run", file, "--runs", tmp_path / "runs", "--json")
    assert (code, err) == (0, "")
    (path,) = [e["path"] for e in rows(out) if e.get("kind") == "adapter"]
    assert Path(path).is_file()
    assert only_run(tmp_path).finished_status() == "completed"


def test_runs_in_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    """Refused in words before a run, and for a run that was moved there."""
    place = tmp_path / odd_name(b"caf\xe9")
    place.mkdir()
    file = toy_runs.project(tmp_path, train={"steps": 2})
    code, _, err = studio("run", file, "--runs", place / "runs")
    assert code == 2
    assert "its name is not valid UTF-8" in err
    run = toy_runs.folder(tmp_path)
    moved = run.path.rename(place / run.id)
    code, out, _ = studio("resume", moved)
    assert code == 1
    assert "its name is not valid UTF-8" in out


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"a\x80", b"\xc3", b"\xed\xa0\x80"])
@pytest.mark.parametrize("field", ["data.source", "base.model", "export.folder"])
def test_settings_that_are_no_utf8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, name: bytes
) -> None:
    """A path of the data, of the model or of the export: one problem, at its field."""
    place = tmp_path / odd_name(name)
    place.mkdir()
    (place / "rows.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    node, setting = field.split(".")
    types = {"data": "dataset", "base": "base_model", "export": "export"}
    file = tmp_path / "p.studio"
    path = str(place / "rows.jsonl" if node == "data" else place)
    save_project(file, Graph("x", (Node(node, types[node], {setting: path}),), ()))
    assert main(["check", str(file)]) == 2
    err = capsys.readouterr().err
    named = [row for row in err.splitlines() if "not valid Unicode" in row]
    assert len(named) == 1
    assert f"{node}.{setting}: " in named[0]
    assert "surrogates" not in err


def test_relative_paths_in_a_project_folder_that_is_no_utf8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / odd_name(b"caf\xe9")
    place.mkdir()
    (place / "rows.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    nodes = (Node("data", "dataset", {"source": "rows.jsonl"}), Node("base", "base_model", {}))
    save_project(place / "p.studio", Graph("x", nodes, ()))
    assert main(["check", str(place / "p.studio")]) == 2
    assert capsys.readouterr().err.count("data.source: Dataset: source") == 1


def test_a_letter_that_breaks_lines_breaks_no_event(tmp_path: Path) -> None:
    text = "a\u2028b\x85c \ud83d"  # what scraped data really holds
    run = toy_runs.folder(tmp_path)
    for sentence in ("first", text):
        run.append(Event("Notice", 1.0, None, {"sentence": sentence}))
    assert len(run.events_path.read_text(encoding="utf-8").splitlines()) == 2
    assert [e.get("sentence") for e in toy_runs.events_of(run)] == ["first", text]


def test_stop_while_the_host_is_still_starting(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "sleep"})
    assert run.status() == "preparing"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start("stop", run.id, "--runs", run.path.parent, **quiet)
    wait_until(lambda: run.commands_path.exists() or process.poll() is not None)
    assert process.poll() is None
    host = start_host(run, commands_from=0)
    assert process.wait(WAIT_S) == 0
    assert host.wait(WAIT_S) == 3
    assert finished(run) == ["stopped"]


def test_the_line_to_go_on_can_be_copied(tmp_path: Path) -> None:
    place = tmp_path / "my runs"
    file = toy_runs.project(tmp_path, block={"how": "fail"})
    _, out, _ = studio("run", file, "--runs", place)
    (line,) = [row for row in out.splitlines() if row.startswith("Resume with: ")]
    assert f"--runs '{place}'" in line


def test_the_last_status_of_a_run_with_an_odd_name(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    append_line(run.events_path, '{"event": "RunFinished", "time": 1, "status": "stopped"}\n')
    append_line(run.events_path, '{"event": "RunStarted", "time": 2, "name": "a\u2028b"}\n')
    assert run.finished_status() is None


def test_a_run_that_cannot_go_on_does_not_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    file = toy_runs.project(tmp_path, source={"file": "a.txt"}, block={"how": "fail"})
    assert "Resume with: " in studio("run", file, "--runs", tmp_path / "runs")[1]
    run = only_run(tmp_path)
    (tmp_path / "a.txt").write_text("two", encoding="utf-8")
    shutil.rmtree(run.steps)
    code, out, _ = studio("resume", run.id, "--runs", tmp_path / "runs")
    assert code == 1
    assert "have changed since this run was planned" in out
    assert "Resume with: " not in out


def test_a_notice_about_the_settings_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.toml").write_text("leave_core = 7", encoding="utf-8")
    process = subprocess.run(
        [*COMMAND, "run", str(toy_runs.project(tmp_path))],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "LORA_STUDIO_HOME": str(tmp_path)},
    )
    assert process.returncode == 0
    assert process.stderr.count("leave_core") == 1
