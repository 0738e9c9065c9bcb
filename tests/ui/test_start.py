"""The program's start as a user does it: soon on the screen, and without torch in the window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN_WITHIN_S = 1.5
PATIENCE_S = 60
# Other tests may run on the same cores; the benchmark measures on a quiet machine.
ALLOWANCE = 4.0


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
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.terminate()
    errors = process.communicate()[1]
    assert log.is_file(), errors
    assert "Traceback" not in errors, errors
    found: dict[str, object] = json.loads(log.read_text("utf-8"))
    return found


def test_the_window_shows_soon_and_without_torch(tmp_path: Path) -> None:
    noted = start(tmp_path / "home")
    assert noted["heavy"] == []
    seconds = noted["seconds"]
    assert isinstance(seconds, float)
    assert seconds < SHOWN_WITHIN_S * ALLOWANCE


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
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["run_window", "run_demo"])
def test_the_entry_finds_its_functions(name: str) -> None:
    import ui.app

    assert callable(getattr(ui.app, name))
