"""The program's start as a user does it: soon on the screen, and without torch in the window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timing import cpu_limit, wait_until

ROOT = Path(__file__).resolve().parents[2]
SHOWN_WITHIN_S = 4.0


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


def test_the_window_shows_soon_and_without_torch(tmp_path: Path) -> None:
    with cpu_limit(SHOWN_WITHIN_S, children=True):
        noted = start(tmp_path / "home")
    assert noted["heavy"] == []
    assert isinstance(noted["seconds"], float)


def test_a_damaged_project_still_opens_the_window(tmp_path: Path) -> None:
    broken = tmp_path / "broken.studio"
    broken.write_text("{", "utf-8")
    assert start(tmp_path / "home", str(broken))["heavy"] == []


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
