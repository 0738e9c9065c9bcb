"""``main.py report`` as a user calls it: findings with lines, fixes that mend, clean streams, Ctrl+C."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.preview.report import report_from_json
from tests.e2e.studio_cli import start, studio, write_project
from tests.timing import WAIT_S, wait_until
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder of its own."""
    return make_tiny_model(tmp_path_factory.mktemp("report") / "model")


def _chat(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _project(folder: Path, model: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps({"messages": r}) + "\n" for r in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    return write_project(folder / "talk.studio", model, folder / "rows.jsonl")


def test_findings_name_their_lines_and_a_fix_mends_one(model: Path, tmp_path: Path) -> None:
    rows = [_chat(f"say {n} at once", f"it is {n}") for n in range(30)]
    rows[11] = _chat("say much", "long " * 60)
    rows[20] = _chat("say cafe", "cafÃ©")
    project = _project(tmp_path, model, rows)
    done = studio("report", project)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("30 rows: 24 for training, 6 for validation\n")
    assert "max length 128: 1 row is truncated; 1 answer incomplete" in done.out
    assert "    row 12, rows.jsonl:12: " in done.out
    assert "    row 21, rows.jsonl:21: UTF-8 decoded with another encoding (“Ã©”)" in done.out
    assert "--fix raise_max_length: " in done.out
    before = project.read_text(encoding="utf-8")
    done = studio("report", project, "--fix", "nonsense")
    assert (done.code, done.out) == (2, "")
    assert "Available: raise_max_length" in done.err
    assert project.read_text(encoding="utf-8") == before
    done = studio(
        "report", project, "--fix", "raise_max_length", "--json", "--set", "train.epochs=7"
    )
    assert done.code == 0
    assert (
        done.err == "Not written, because --set applies to this invocation only: train.epochs=7.\n"
    )
    assert '"epochs": 7' not in project.read_text(encoding="utf-8")
    (said,) = done.events
    assert said["changes"] == {"train.max_length": 384}
    done = studio("report", project, "--json")
    report = report_from_json(done.events[0])
    assert [f.code for f in report.findings] == ["encoding"]
    done = studio("tokens", project, "--suspicious", "--json")
    assert [(r["row"], r["flags"]) for r in done.events] == [(21, ["encoding"])]


def test_data_that_train_nothing_end_with_1_and_block_the_run(model: Path, tmp_path: Path) -> None:
    asked = [{"role": "assistant", "content": "first"}, {"role": "user", "content": "and then?"}]
    project = _project(tmp_path, model, [asked] * 4)
    assert studio("check", project).code == 0  # nobody has looked at the rows yet
    done = studio("report", project)
    assert (done.code, done.err) == (1, "")
    assert "✗ None of the 4 rows has trained tokens." in done.out
    done = studio("check", project)
    assert done.code == 2
    assert "train: Train: the data report shows that nothing would be trained" in done.err
    done = studio("tokens", project, "--row", 1)  # the rows can still be looked at
    assert (done.code, done.err) == (0, "")
    _project(tmp_path, model, [_chat(f"say {n}", f"it is {n}") for n in range(9)])
    assert studio("check", project).code == 0  # other rows, so the report says nothing of them


def test_bad_rows_are_reported_although_they_block_a_run(model: Path, tmp_path: Path) -> None:
    project = _project(tmp_path, model, [_chat(f"say {n}", f"it is {n}") for n in range(9)])
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write("{oops\n")
    assert studio("check", project).code == 2
    done = studio("report", project)
    assert (done.code, done.err) == (1, "")
    assert "✗ 1 row cannot be read.\n    row 10, rows.jsonl:10: " in done.out
    done = studio("report", project, "--fix", "skip_bad_rows")
    assert done.code == 0
    assert studio("check", project).code == 0
    done = studio("report", project)
    assert (done.code, done.err) == (0, "")
    assert "! 1 row cannot be read; skipped, as set on the Dataset node." in done.out


def is_reading(process: subprocess.Popen[str], file: Path) -> bool:
    """Whether a process that still runs, or one that it started, has a file open."""
    assert process.poll() is None
    open_files: set[str] = set()
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            open_files |= {f.path for f in one.open_files()}
    return str(file) in open_files


def test_ctrl_c_ends_it(model: Path, tmp_path: Path) -> None:
    rows = [
        _chat(f"say {n}", "words " * 50) for n in range(200_000)
    ]  # far more than are read by then
    project = _project(tmp_path, model, rows)
    with start("report", project) as process:
        try:
            wait_until(lambda: is_reading(process, tmp_path / "rows.jsonl"))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT_S)
            assert (process.returncode, out, err.strip()) == (3, "", "Stopped.")
        finally:
            process.kill()
