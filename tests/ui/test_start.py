"""The program's start as a user does it: soon on the screen, complete soon after, and without torch in the window."""

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
