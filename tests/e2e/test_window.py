"""The main job in the real window, with real mouse and key events, on the real starter model.

One test is the story of a first evening: open the starter project, change r, run, watch the curves,
stop, resume, find the results. The other is what happens when the window is killed meanwhile. Only
the length of the training is cut, by typing into the same form that a user types into.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from PySide6.QtWidgets import QTreeWidget
from pytestqt.qtbot import QtBot

from studio.runs.folder import RunFolder, list_runs
from tests.e2e.studio_cli import ROOT, write_project, write_rows
from tests.e2e.window import Open, press, type_setting
from tests.timing import wait_until
from tests.tiny import make_tiny_model
from ui.window.session import Session


def points(session: Session, plot: str, curve: str) -> int:
    """How many points a curve has on the screen."""
    session.window.monitor.draw_now()
    return len(session.window.monitor.plot(plot).points(curve)[0])


def test_the_main_job(open_window: Open, qtbot: QtBot, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(
        "LORA_STUDIO_CACHE", os.environ.get("LORA_STUDIO_CACHE", str(tmp_path / "c"))
    )
    session = open_window(ROOT / "assets" / "starter.studio")
    type_setting(session, qtbot, "lora", "r", "8")
    for field, text in {
        "max_steps": "10",
        "batch_size": "2",
        "eval_steps": "5",
        "save_steps": "2",
    }.items():
        type_setting(session, qtbot, "train", field, text)
    type_setting(session, qtbot, "evaluate", "rows", "4")
    assert session.window.isWindowModified()

    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    trained = lambda: points(session, "loss", "loss") >= 2  # noqa: E731
    qtbot.waitUntil(lambda: trained() or session.runs.phase == "idle")
    assert session.runs.phase == "running", "\n".join(session.window.log.lines()[-20:])
    assert points(session, "memory", "ram_process_gib") >= 2

    press(session, "stop")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    (run,) = list_runs(session.runs.runs_dir)
    assert run.status() == "stopped"
    stopped_at = points(session, "loss", "loss")

    press(session, "resume")
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert run.status() == "completed", "\n".join(session.window.log.lines()[-20:])
    assert points(session, "loss", "loss") == 10 > stopped_at
    assert points(session, "loss", "eval_loss") >= 2

    saved = {a["kind"]: Path(a["path"]) for a in session.runs.shown.state.artifacts}
    config = json.loads((saved["adapter"] / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == 8
    assert (saved["merged_model"] / "model.safetensors").stat().st_size > 100_000_000
    session.window.show_tab(2)
    tree = session.window.results.findChild(QTreeWidget)
    listed = [tree.topLevelItem(i).text(0) for i in range(tree.topLevelItemCount())]
    kinds = {text.split(" (")[0] for text in listed}
    assert {"Adapter", "Merged model", "Report", "Exported GGUF model"} <= kinds
    check = session.window.results.checks.item(0, 0)
    assert check is not None
    assert check.text() == "Q8_0 in llama.cpp"
    assert "before" in session.window.results.bars.text()


DRIVER = """
import sys
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from ui import app as program
from pathlib import Path
application = program.make_application()
session = program.open_session(application, Path(sys.argv[1]))
def press():
    QTest.mouseClick(session.window.tool_bar.widgetForAction(session.window.own["run"]),
                     Qt.MouseButton.LeftButton)
QTimer.singleShot(2000, press)
sys.exit(application.exec())
"""


def wait_for_metric(runs: Path) -> RunFolder:
    """The run, once it trains."""
    trains = lambda run: (  # noqa: E731
        run.events_path.exists() and '"Metric"' in run.events_path.read_text(encoding="utf-8")
    )
    wait_until(lambda: any(map(trains, list_runs(runs))), "no run trains")
    return next(filter(trains, list_runs(runs)))


def test_a_killed_window_leaves_the_run_going(
    open_window: Open, qtbot: QtBot, tmp_path: Path, monkeypatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("LORA_STUDIO_HOME", str(home))
    make_tiny_model(tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl", 200)
    length = {"max_steps": 400, "save_steps": 20, "eval_steps": 100}
    project = write_project(tmp_path / "talk.studio", tmp_path / "model", rows, train=length)
    window = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(project)],
        cwd=ROOT,
        env={**os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        run = wait_for_metric(home / "data" / "runs")
    finally:
        os.kill(window.pid, signal.SIGKILL)
        window.wait()
    assert run.is_running()

    session = open_window(project)
    qtbot.waitUntil(lambda: session.runs.phase == "running" or run.status() == "completed")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    session.runs.show_run(run)
    assert run.status() == "completed"
    qtbot.waitUntil(lambda: points(session, "loss", "loss") == 400)
