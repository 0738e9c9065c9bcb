"""The window reads all rows in the background: a broken line far down blocks Run with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from studio.data import kept_checks
from studio.errors import Problem
from studio.graph.edits import set_setting
from studio.runs.folder import list_runs
from tests.e2e.window import Open, press
from ui.window.session import Session


@pytest.fixture
def opened(open_window: Open) -> Open:
    kept_checks.results.clear()
    return open_window


def project(folder: Path, name: str = "rows.jsonl") -> Path:
    data = {"id": "data", "type": "dataset", "position": [0, 0], "settings": {"source": name}}
    path = folder / "talk.studio"
    path.write_text(
        json.dumps(
            {"format": "lora-studio", "version": 3, "name": "t", "nodes": [data], "wires": []}
        ),
        encoding="utf-8",
    )
    return path


def rows(count: int, broken: int = 0) -> bytes:
    lines = [json.dumps({"prompt": f"q{n * 7919}", "completion": f"a{n}"}) for n in range(count)]
    if broken:
        lines[broken - 1] = lines[broken - 1][:-4]
    return ("\n".join(lines) + "\n").encode()


def edit(session: Session, setting: str, value: object) -> None:
    document = session.document
    document.edit(set_setting(document.graph, "data", setting, value), setting)


def settled(session: Session) -> bool:
    return not session.row_check.busy


def of_rows(session: Session) -> list[Problem]:
    """The problems of the rows, without the warning that no training uses them."""
    return [p for p in session.problems.problems if p.code != "unused_node"]


def test_a_broken_line_777_blocks_run_with_its_line(
    opened: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(800, broken=777))
    session = opened(project(tmp_path))
    qtbot.waitUntil(lambda: bool(of_rows(session)))
    (problem,) = of_rows(session)
    assert (problem.node, problem.line, problem.blocks) == ("data", 777, True)
    assert "1 problem" in session.window.status.problems.text()

    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert not list_runs(session.runs.runs_dir)
    assert "line 777 of rows.jsonl is not valid JSON" in session.window.status.currentMessage()
    assert session.window.canvas.selected_ids() == ("data",)

    edit(session, "on_bad_rows", "skip")
    qtbot.waitUntil(lambda: [p.code for p in of_rows(session)] == ["rows_skipped"])
    press(session, "run")
    qtbot.waitUntil(lambda: len(list_runs(session.runs.runs_dir)) == 1)
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert list_runs(session.runs.runs_dir)[0].status() == "completed"


def test_run_is_blocked_even_before_the_background_was_there(
    opened: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(800))
    session = opened(project(tmp_path))
    qtbot.waitUntil(lambda: settled(session))
    assert not of_rows(session)
    (tmp_path / "rows.jsonl").write_bytes(rows(900, broken=890))  # nothing in the window changed
    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert not list_runs(session.runs.runs_dir)
    assert [p.line for p in of_rows(session)] == [890]


def test_a_cut_archive_is_found_and_its_rows_can_still_be_looked_at(
    opened: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    packed = gzip.compress(rows(5000))
    (tmp_path / "rows.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    session = opened(project(tmp_path, "rows.jsonl.gz"))
    qtbot.waitUntil(lambda: bool(of_rows(session)))
    assert [p.code for p in of_rows(session)] == ["corrupt_gzip"]
    assert "after line" in of_rows(session)[0].sentence


def test_another_file_ends_the_check_of_the_first(
    opened: Open, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(200_000, broken=199_999))
    (tmp_path / "good.jsonl").write_bytes(rows(200))
    session = opened(project(tmp_path))
    session.problems.check()
    assert session.row_check.busy
    edit(session, "source", "good.jsonl")
    session.problems.check()
    qtbot.waitUntil(lambda: settled(session))
    assert not of_rows(session)
    kept = [checked.rows for checked in kept_checks.results.values()]
    assert kept == [200], "the first one left no result"


def test_closing_the_window_ends_the_check(opened: Open, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(200_000))
    session = opened(project(tmp_path))
    session.problems.check()
    assert session.row_check.busy
    session.window.may_close = lambda: True
    session.window.close()
    assert settled(session)
    assert not kept_checks.results
