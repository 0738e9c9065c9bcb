"""The program's start as a user does it: soon on the screen, complete soon after, and without torch in the window."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from tests.timing import cpu_limit, wait_until
from ui import app as program
from ui.window import opening
from ui.window.project_controller import starter_path
from ui.window.session import Session
from workers.run_thread import detach_all
from workers.task import wait_for_tasks

ROOT = Path(__file__).resolve().parents[2]
SHOWN_WITHIN_S = 4.0
LATER = {
    *("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "tokenizers"),
    *("huggingface_hub", "pyarrow", "pandas", "numpy", "pyqtgraph", "regex", "jinja2", "sqlite3"),
}
"""What the first paint does not need, and may take a tenth of a second or more to import."""
LATER_OWN = {
    *(
        "studio.data.check",
        "studio.data.full_check",
        "studio.data.reading.reader",
        "studio.recipe.recipe",
    ),
    *("studio.estimate.graph", "studio.estimate.forecast", "studio.runs.row_check"),
    *("ui.inspector.node_form", "ui.inspector.editors.pick", "ui.monitor.panel", "ui.monitor.plot"),
    *("ui.data.rows_page", "ui.data.token_page", "ui.data.report_page", "ui.training.base_dialog"),
    *("ui.dialogs.guide", "ui.dialogs.settings_dialog", "ui.dialogs.shortcut_sheet"),
}


def start(home: Path, *arguments: str) -> dict[str, object]:
    """Start the window, wait until it was painted, end it; returns what it noted."""
    log = home / "startup.json"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "LORA_STUDIO_HOME": str(home),
        "LORA_STUDIO_STARTUP_LOG": str(log),
    }
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    wait_until(lambda: (log.is_file() and log.stat().st_size) or process.poll() is not None)
    process.terminate()
    errors = process.communicate()[1]
    assert log.is_file(), errors
    assert "Traceback" not in errors, errors
    found: dict[str, object] = json.loads(log.read_text("utf-8"))
    return found


def imported(noted: dict[str, object]) -> set[str]:
    """What had been imported when the window was painted first: modules, and the packages they are in."""
    modules = noted["modules"]
    assert isinstance(modules, list)
    return {*modules, *(name.partition(".")[0] for name in modules)}


def test_the_first_paint_waits_for_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    with cpu_limit(SHOWN_WITHIN_S, children=True):
        noted = start(tmp_path / "home")
    assert imported(noted) & (LATER | LATER_OWN) == set()
    assert imported(noted) >= {"ui.canvas.view", "ui.inspector.panel", "ui.monitor.runs_list"}
    assert isinstance(noted["cpu_s"], float)


def test_a_damaged_project_still_opens_the_window(tmp_path: Path) -> None:
    broken = tmp_path / "broken.studio"
    broken.write_text("{", "utf-8")
    assert imported(start(tmp_path / "home", str(broken))) & LATER == set()


def test_the_window_never_imports_torch() -> None:
    """Also not later: everything a window can open is imported here."""
    code = (
        "import sys, ui.app, ui.monitor.panel, ui.window.help_windows, ui.dialogs.settings_dialog, "
        "ui.dialogs.about, ui.dialogs.shortcut_sheet\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["run_window", "run_demo"])
def test_the_entry_finds_its_functions(name: str) -> None:
    import ui.app

    assert callable(getattr(ui.app, name))


def test_what_is_imported_in_steps_needs_no_library_of_the_curves() -> None:
    """Such a step would wait for the library, which is imported on another thread meanwhile."""
    code = (
        "import importlib, sys, ui.app, ui.window.opening as opening\n"
        "[importlib.import_module(name) for name in opening.FIRST_USES]\n"
        "early = {*opening.LIBRARIES, 'torch'} & set(sys.modules)\n"
        "[importlib.import_module(name) for name in opening.LIBRARIES]\n"
        "sys.exit(f'imported: {early}' if early else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def open_early(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """The window of the program on the starter, painted but not complete."""
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path))
    session = program.open_session(qapp, starter_path())
    session.window.may_close = lambda: True
    qtbot.waitExposed(session.window)
    assert session.window.monitor is None
    yield session
    session.window.close()
    session.window.deleteLater()
    detach_all()
    wait_for_tasks()


def test_the_first_picture_is_the_one_that_stays(open_early: Session, qtbot: QtBot) -> None:
    """Nothing jumps or changes when the window is complete: the graph is fitted and the buttons tell the truth."""
    window = open_early.window
    canvas, buttons = window.canvas, ("run", "stop", "finish", "resume", "save")

    def seen() -> list[object]:
        states = [(window.own[name].isEnabled(), window.own[name].isVisible()) for name in buttons]
        return [canvas.viewportTransform(), canvas.viewport().size(), *states]

    first = seen()
    assert not window.own["stop"].isEnabled()
    qtbot.waitUntil(lambda: window.monitor is not None)
    assert seen() == first


class Keys(QObject):
    """Notes when a widget receives a key."""

    def __init__(self, watched: QObject, seen: list[str]) -> None:
        super().__init__(watched)
        self._seen = seen
        watched.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.KeyPress:
            self._seen.append("key")
        return False


def test_a_key_is_handled_between_any_two_steps_that_complete_the_window(
    open_early: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas, seen = open_early.window.canvas, list[str]()
    Keys(canvas, seen)
    real = importlib.import_module

    def import_module(name: str) -> object:
        if threading.current_thread() is threading.main_thread():
            seen.append("step")
            key = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_F24, Qt.KeyboardModifier.NoModifier)
            QApplication.postEvent(canvas, key)  # pressed while this step is at work
        return real(name)

    monkeypatch.setattr(opening.importlib, "import_module", import_module)
    qtbot.waitUntil(lambda: open_early.window.monitor is not None)
    assert seen == ["step", "key"] * len(opening.FIRST_USES)
    assert len(open_early.window.monitor.plots) == 5


def test_a_project_opened_before_the_window_is_complete_is_checked(
    open_early: Session, qtbot: QtBot
) -> None:
    open_early.project.new()
    assert open_early.window.monitor is None
    qtbot.waitUntil(lambda: open_early.window.monitor is not None)
    assert [p.code for p in open_early.problems.problems] == ["empty"]
    assert open_early.window.status.problems.text() == "1 problem"


def test_a_window_can_be_closed_before_it_is_complete(open_early: Session) -> None:
    open_early.window.close()
    wait_for_tasks()
    QApplication.processEvents()
    assert not open_early.window.isVisible()
    assert open_early.window.monitor is None


COPY_AND_QUIT = """
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from ui import app
held = Qt.KeyboardModifier.ControlModifier

def use(session):
    canvas = session.window.canvas
    canvas.setFocus()
    for key in (Qt.Key.Key_A, Qt.Key.Key_C, Qt.Key.Key_Q):
        QTest.keyClick(canvas, key, held)

made = app.open_session

def opened(*arguments):
    session = made(*arguments)
    session.window.shown_first.connect(lambda: use(session))
    return session

app.open_session = opened
raise SystemExit(app.run_window())
"""


def test_quitting_with_nodes_on_the_clipboard_ends_well(tmp_path: Path) -> None:
    """The clipboard lives longer than the window."""
    environment = {"QT_QPA_PLATFORM": "offscreen", "LORA_STUDIO_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", COPY_AND_QUIT],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
