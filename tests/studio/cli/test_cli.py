"""The command line as a process: exit codes, what goes to which stream, Ctrl+C, closed pipes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.cli.report import print_results
from studio.events import Event
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from studio.system.hardware import cpu_count
from studio.system.settings import AppSettings, save_settings
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import calls, finished
from tests.timing import WAIT_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from studio.cli import main; sys.exit(main(sys.argv[1:]))",
]


def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], encoding="utf-8", env=environment, **streams
    )


def studio(*arguments: object, **more: Any) -> tuple[int, str, str]:
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=WAIT_S)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def only_run(place: Path) -> toy_runs.RunFolder:
    (path,) = (place / "runs").iterdir()
    return toy_runs.RunFolder(path)


def test_run_in_words(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 40})
    code, out, err = studio("run", file.name, "--runs", "runs", cwd=tmp_path)
    assert (code, err) == (0, "")
    for words in (
        "[2/4] Train",
        "step 40/40",
        "Toy finished in ",
        "Adapter (Train): ",
        "exact",
        "Run folder: ",
    ):
        assert words in out
    assert len([line for line in out.splitlines() if " loss " in line]) <= 22
    code, out, _ = studio("run", file, "--runs", tmp_path / "runs")
    assert out.count("unchanged, reused") == 4


def test_run_in_json_and_nothing_else(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 3})
    code, out, err = studio("run", file, "--runs", tmp_path / "runs", "--json")
    assert (code, err) == (0, "")
    events = rows(out)
    assert all({"event", "time"} <= set(e) for e in events)
    assert out == only_run(tmp_path).events_path.read_text(encoding="utf-8")
    assert [e["step"] for e in events if e["event"] == "Metric"] == [1, 2, 3]


@pytest.mark.parametrize("option", [[], ["--all-cores"]])
def test_a_run_from_the_terminal_uses_all_cores_at_its_usual_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    """Whatever is set for runs of the window."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path))
    save_settings(AppSettings(leave_core=True))
    file = toy_runs.project(tmp_path, train={"steps": 1}, block={"how": "priority"})
    code, out, err = studio("run", file, "--runs", tmp_path / "runs", "--json", *option)
    assert (code, err) == (0, "")
    events = rows(out)
    assert events[0]["threads"] == cpu_count()
    (said,) = (e["sentence"] for e in events if e["event"] == "Notice")
    assert said == f"nice {psutil.Process().nice()}"


@pytest.mark.parametrize(("how", "code"), [("studio_error", 1), ("fail", 1)])
def test_a_failed_run(tmp_path: Path, how: str, code: int) -> None:
    file = toy_runs.project(tmp_path, block={"how": how})
    result = studio("run", file, "--runs", tmp_path / "runs")
    assert result[0] == code
    assert "failed: block" in result[1]
    assert "resume" in result[1]


def test_an_export_that_fails_its_check_ends_with_4(tmp_path: Path) -> None:
    """Also when the step is reused, and in the list of runs."""
    file = toy_runs.project(tmp_path, block={"how": "unfit"})
    for _ in range(2):
        code, out, _ = studio("run", file, "--runs", tmp_path / "runs")
        assert code == 4
        assert "but an export failed the check" in out
        assert "Q4_0 in llama.cpp: Too few bits. Use Q8_0." in out
    assert "unchanged, reused" in out
    code, out, _ = studio("runs", "--runs", tmp_path / "runs")
    assert out.count("Completed, export failed") == 2


def test_problems_end_with_2_and_make_no_run(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 0})
    for command in ("check", "run"):
        code, out, err = studio(command, file)
        assert (code, out) == (2, "")
        assert f"{file}: error: train.steps: Train: Steps is 0, but it must be at least 1." in err
    code, out, err = studio("run", file, "--json", "--runs", tmp_path / "runs")
    (problem,) = rows(out)
    assert (code, problem["event"], problem["node"], problem["field"]) == (
        2,
        "Problem",
        "train",
        "steps",
    )
    assert not (tmp_path / "runs").exists()


def test_check_says_ready(tmp_path: Path) -> None:
    code, out, err = studio("check", toy_runs.project(tmp_path))
    assert (code, err) == (0, "")
    assert "ready to run, 4 steps" in out
    assert studio("check", toy_runs.project(tmp_path), "--json") == (0, "", "")


def test_a_newer_project_is_left_untouched(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path)
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), "version": 7}), encoding="utf-8"
    )
    before = file.read_bytes()
    code, _, err = studio("run", file)
    assert code == 2
    assert "newer LoRA Studio" in err
    assert rows(studio("check", file, "--json")[1])[0]["code"] == "newer_project"
    assert file.read_bytes() == before


def test_set_changes_values_for_this_time(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path)
    before = file.read_bytes()
    code, out, _ = studio(
        "run",
        file,
        "--runs",
        tmp_path / "runs",
        "--json",
        "--set",
        "train.steps=7",
        "--set",
        'source.text="two words"',
        "--set",
        "block.label=7e53421",
    )
    assert code == 0
    assert [e["step"] for e in rows(out) if e["event"] == "Metric"][-1] == 7
    steps = {s.node: s.settings for s in only_run(tmp_path).plan().steps}
    assert (steps["source"]["text"], steps["block"]["label"]) == ("two words", "7e53421")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.stepz=1", "Did you mean steps?"),
        ("tran.steps=1", "Did you mean train?"),
        ("steps=1", "form NODE.SETTING=VALUE"),
        ("train.steps", "form NODE.SETTING=VALUE"),
        ("train.zzzzzz=1", "Available: steps, pause, save_every."),
    ],
)
def test_set_names_what_is_near(tmp_path: Path, change: str, words: str) -> None:
    code, out, err = studio("run", toy_runs.project(tmp_path), "--set", change)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("run",),
        ("run", "nowhere.studio"),
        ("run", "x", "--js"),
        ("resume", "nothing"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = studio(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err


def wait_for(place: Path, word: str) -> None:
    wait_until(
        lambda: any(
            word in p.read_text(encoding="utf-8") for p in place.glob("runs/*/events.jsonl")
        ),
        word,
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_resume_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 100, "pause": 0.03})
    process = start("run", file, "--runs", tmp_path / "runs", "--json")
    wait_for(tmp_path, "CheckpointSaved")
    process.send_signal(how)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 3
    assert rows(out)[-1]["status"] == "stopped"
    assert "Stopping" in err
    run = only_run(tmp_path)
    code, out, _ = studio("resume", run.id, "--runs", tmp_path / "runs", "--json")
    events = rows(out)
    (resumed,) = [e for e in events if e["event"] == "TrainResumed"]
    steps = [e["step"] for e in events if e["event"] == "Metric"]
    assert (code, steps) == (0, list(range(resumed["step"] + 1, 101)))
    assert calls(tmp_path) == ["source", "train", "train", "block", "export"]
    assert finished(run) == ["stopped", "completed"]


def test_resume_says_what_has_changed_in_the_project(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, block={"how": "fail"})
    assert studio("run", file, "--runs", tmp_path / "runs")[0] == 1
    run = only_run(tmp_path)
    code, out, _ = studio("resume", run.id, "--runs", tmp_path / "runs")
    assert "differs from this run" not in out
    toy_runs.project(tmp_path, block={"how": "no"})
    code, out, _ = studio("resume", run.id, "--runs", tmp_path / "runs")
    assert code == 1
    assert "toy.studio differs from this run, which continues as it was:" in out
    assert "  Block: How fail → no" in out
    assert "To use the new settings, run toy.studio instead" in out
    assert "It can be resumed: finished steps are reused." in out


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, block={"how": "sleep"})
    process = start("run", file, "--runs", tmp_path / "runs")
    wait_for(tmp_path, "Blocking")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "Stopping" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 3
    run = only_run(tmp_path)
    assert finished(run) == ["stopped"]
    assert "did not stop in time" not in run.log_path.read_text(
        encoding="utf-8"
    )  # the host was not waited for


def test_a_killed_host_ends_with_1(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, block={"how": "check"})
    process = start("run", file, "--runs", tmp_path / "runs", "--json")
    wait_for(tmp_path, "Blocking")
    first = json.loads(only_run(tmp_path).events_path.read_text(encoding="utf-8").splitlines()[0])
    os.kill(first["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "RunFinished" not in out
    assert "host.log" in err


def test_stop_from_another_terminal(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, block={"how": "check"})
    process = start("run", file, "--runs", tmp_path / "runs", "--json")
    wait_for(tmp_path, "Blocking")
    run = only_run(tmp_path)
    assert studio("resume", run.id, "--runs", tmp_path / "runs")[0] == 2
    assert studio("stop", run.id, "--runs", tmp_path / "runs") == (0, "", "")
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 3
    code, _, err = studio("stop", run.id, "--runs", tmp_path / "runs")
    assert code == 2
    assert "not running" in err


def test_finish_needs_a_training_that_is_going(tmp_path: Path) -> None:
    """Otherwise a later training of the run would end after its first step."""
    file = toy_runs.project(tmp_path, block={"how": "check"})
    process = start("run", file, "--runs", tmp_path / "runs", "--json")
    wait_for(tmp_path, "Blocking")
    run = only_run(tmp_path)
    code, _, err = studio("finish", run.id, "--runs", tmp_path / "runs")
    assert code == 2
    assert "no training to finish" in err
    assert not run.commands_path.exists() or "finish" not in run.commands_path.read_text(
        encoding="utf-8"
    )
    assert studio("stop", run.id, "--runs", tmp_path / "runs")[0] == 0
    process.communicate(timeout=WAIT_S)
    code, _, err = studio("finish", run.id, "--runs", tmp_path / "runs")
    assert code == 2
    assert "not running" in err


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_a_closed_pipe_ends_the_run_quietly(tmp_path: Path, flag: list[str]) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 2000, "pause": 0.01})
    process = start("run", file, "--runs", tmp_path / "runs", *flag)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT_S) == 3
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert finished(only_run(tmp_path)) == ["stopped"]


def test_runs_and_damaged_ones(tmp_path: Path) -> None:
    assert "No runs" in studio("runs", "--runs", tmp_path / "runs")[1]
    run = toy_runs.folder(tmp_path)
    toy_runs.run_here(run)
    damaged = toy_runs.folder(tmp_path)
    damaged.plan_path.write_text("{", encoding="utf-8")
    _, out, _ = studio("runs", "--runs", tmp_path / "runs", "--json")
    newest, oldest = rows(out)
    assert (oldest["id"], oldest["status"], oldest["name"]) == (run.id, "completed", "Toy")
    assert (newest["id"], newest["name"]) == (damaged.id, "(damaged)")
    assert studio("resume", damaged.id, "--runs", tmp_path / "runs")[0] == 2


def test_nodes_lists_everything() -> None:
    code, out, _ = studio("nodes", "--json")
    found = {(r["kind"], r["id"]) for r in rows(out)}
    assert code == 0
    assert {
        ("node", "train"),
        ("node", "toy_train"),
        ("adapter", "lora"),
        ("format", "messages"),
    } <= found
    (toy,) = [r for r in rows(out) if r["id"] == "toy_train"]
    assert toy["settings"][0]["unit"] == "steps"
    assert "toy_train: Train" in studio("nodes")[1]


def test_progress_on_a_terminal_is_one_line(tmp_path: Path) -> None:
    file = toy_runs.project(tmp_path, train={"steps": 30, "pause": 0.02})
    reader, writer = pytest.importorskip("pty").openpty()
    process = start("run", file, "--runs", tmp_path / "runs", stdout=writer, stderr=writer)
    os.close(writer)
    seen = b""
    while True:
        try:
            seen += os.read(reader, 65536)
        except OSError:  # the terminal's other end is closed
            break
    os.close(reader)
    assert process.wait(WAIT_S) == 0
    assert re.search(rb"\rTrain \d+/30  \[", seen)
    assert b"Toy finished in " in seen


def test_torch_is_not_imported_by_the_terminal() -> None:
    code = (
        "import sys, studio.cli, studio.runs.host; studio.cli.main(['nodes', '--json']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'PySide6')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


def test_each_evaluation_of_a_run_is_printed_under_its_node(capsys, tmp_path: Path) -> None:
    """Two Evaluate nodes: two tables, each with the title of its node."""
    state = RunState()
    for node, title, after in (("a", "Easy", 0.5), ("b", "Hard", 0.25)):
        state.node(node).title = title
        measures = {"exact_match": {"before": 0.0, "after": after}}
        state.apply(Event("Evaluation", 1.0, node, {"rows": 4, "measures": measures}))
    print_results(RunFolder(tmp_path), state, "completed")
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    titles = [lines.index("Easy:"), lines.index("Hard:")]
    measured = [i for i, line in enumerate(lines) if line.startswith("  exact match")]
    assert [lines[i].split()[-2] for i in measured] == ["50.0", "25.0"]
    assert titles[0] < measured[0] < titles[1] < measured[1]


def test_the_page_of_an_uploaded_export_is_printed(capsys, tmp_path: Path) -> None:
    state = RunState()
    state.node("export").title = "Export"
    saved = {"kind": "adapter", "path": "/x", "url": "https://huggingface.co/me/tone"}
    state.apply(Event("ArtifactSaved", 1.0, "export", {**saved, "exported": True}))
    print_results(RunFolder(tmp_path), state, "completed")
    assert "Exported adapter (Export): /x\n  on the Hub: https://huggingface.co/me/tone\n" in (
        capsys.readouterr().out
    )
