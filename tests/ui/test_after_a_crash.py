"""The window's process dies with a run going on and changes not saved: the next one offers both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from studio.graph.project import journal_path, load_project, save_project
from studio.runs.folder import RunFolder, list_runs
from tests.timing import WAIT_MS
from tests.ui import toys
from tests.ui.conftest import MakeSession
from ui.window import run_banners
from ui.window.session import Session

ROOT = Path(__file__).resolve().parents[2]
LEFT = Qt.MouseButton.LeftButton

WINDOW = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from studio.graph.edits import rename
from ui import app as program
application = program.make_application()
session = program.open_session(application, Path(sys.argv[1]))
def work():
    session.window.own["run"].trigger()
    session.document.edit(rename(session.document.graph, "Half done"), "Rename")
session.window.shown_first.connect(lambda: QTimer.singleShot(500, session, work))
sys.exit(application.exec())
"""


def wait(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not what():
        assert process.poll() is None, "the window has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def dead_window(home: Path, project: Path, toy_registry: object) -> RunFolder:
    """Killed in the midst of a run, with a change in its journal; the run goes on."""
    save_project(project, toys.toy_graph(steps=6000, delay_s=0.01))
    window = subprocess.Popen(
        [sys.executable, "-c", WINDOW, str(project)],
        cwd=ROOT,
        env={**os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    runs = home / "data" / "runs"
    try:
        wait(lambda: bool(list_runs(runs)) and list_runs(runs)[0].is_running(), window)
        wait(journal_path(project).exists, window)
    finally:
        os.kill(window.pid, signal.SIGKILL)
        window.wait()
    return list_runs(runs)[0]


def press(session: Session, qtbot: QtBot, title: str) -> None:
    """Click a button of the banner."""
    qtbot.mouseClick(session.window.banner.button(title), LEFT)


def test_both_are_offered_one_after_the_other(
    dead_window: RunFolder, make_session: MakeSession, project: Path, qtbot: QtBot
) -> None:
    """The run that is found and followed must not take the offer of the changes away."""
    assert dead_window.is_running()
    session = make_session(load_project(project), project, run_in="host")
    banner = session.window.banner
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    assert banner.text() == "LoRA Studio ended before the changes to this project were saved."
    press(session, qtbot, "Recover")
    assert session.document.graph.name == "Half done"
    assert session.window.isWindowModified()
    assert banner.text() == "Toys is running."
    press(session, qtbot, "Show Curves")
    assert banner.text() == ""
    session.window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert dead_window.status() == "stopped"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("preparing", "Toys is running."),  # it soon will be, and the sentence stays
        ("running", "Toys is running."),
        ("stopping", "Toys is stopping."),
    ],
)
def test_what_is_said_of_a_run_that_is_found(
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: str,
    sentence: str,
) -> None:
    found = SimpleNamespace(name="Toys", status=status)
    monkeypatch.setattr(run_banners, "summarize", lambda run: found)
    session = make_session()
    run_banners.attached(session, RunFolder(tmp_path))
    assert session.window.banner.text() == sentence


def test_what_waits_is_dropped_when_it_is_over(
    dead_window: RunFolder, make_session: MakeSession, project: Path, qtbot: QtBot
) -> None:
    """While the changes wait for an answer, the run ends: then only its end is told."""
    session = make_session(load_project(project), project, run_in="host")
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    session.window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert "were saved" in session.window.banner.text()
    press(session, qtbot, "Discard")
    assert not journal_path(project).exists()
    assert session.window.banner.text().startswith("Toys: Stopped ")
