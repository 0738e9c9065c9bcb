"""A training watched in the real window with real clicks and keys: prompts are written, the model is asked
while it trains, it ends early, the best evaluation is kept, and samples and insight are read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QWidget
from pytestqt.qtbot import QtBot

from studio.graph.edits import set_setting
from tests.e2e.studio_cli import write_project, write_rows
from tests.e2e.window import LEFT, Open, click_node, press, type_setting
from tests.tiny import make_tiny_model
from ui.training.estimate_strip import EstimateStrip
from ui.window.main_window import CURVES, INSIGHT, SAMPLES
from ui.window.session import Session


@pytest.fixture
def session(open_window: Open, tmp_path: Path) -> Session:
    """The program's window on a project that only trains: far too fast, so that it learns by heart."""
    return open_window(training(tmp_path))


def training(folder: Path) -> Path:
    """Dataset, base model, LoRA and Train, and nothing after it."""
    settings = {
        "max_steps": 3000,
        "eval_steps": 2,
        "save_steps": 1000,
        "learning_rate": 0.1,
        "lr_scheduler": "constant",
        "sample_max_tokens": 4,
    }
    path = write_project(
        folder / "p.studio",
        make_tiny_model(folder / "model"),
        write_rows(folder / "r.jsonl"),
        train=settings,
    )
    project_data = json.loads(path.read_text(encoding="utf-8"))
    kept = {"data", "base", "lora", "train"}
    project_data["nodes"] = [n for n in project_data["nodes"] if n["id"] in kept]
    project_data["wires"] = [w for w in project_data["wires"] if w["to"].split(".")[0] in kept]
    path.write_text(json.dumps(project_data), encoding="utf-8")
    return path


def open_tab(session: Session, index: int) -> None:
    """Click a tab of the lower dock."""
    bar = session.window.tabs.tabBar()
    QTest.mouseClick(bar, LEFT, Qt.KeyboardModifier.NoModifier, bar.tabRect(index).center())
    assert session.window.tabs.currentIndex() == index


def field(session: Session, qtbot: QtBot, name: str) -> QWidget:
    """A field of the Train node, in view."""
    click_node(session, "train")
    session.window.inspector.focus_field("train", name)
    found = session.window.inspector.findChild(QWidget, f"field:{name}")
    assert found is not None, name
    qtbot.waitUntil(found.isVisible)
    return found


def wait_running(session: Session, qtbot: QtBot, what: Callable[[], bool]) -> None:
    """Wait for something that happens while the run goes on."""
    qtbot.waitUntil(lambda: what() or session.runs.phase == "idle")
    assert what(), "\n".join(session.window.log.lines()[-20:])


def test_a_training_is_watched_and_asked(session: Session, qtbot: QtBot) -> None:
    window = session.window
    write_prompts(session, qtbot)
    ask_while_it_trains(session, qtbot)
    train_until_it_ends_early(session, qtbot)
    marked(session, qtbot)
    samples_are_read(session, qtbot)
    insight_is_read(session)
    assert window.monitor.header.text_of("status") == "✓ Completed"


def write_prompts(session: Session, qtbot: QtBot) -> None:
    """From the empty tab to the setting, with the keyboard."""
    open_tab(session, SAMPLES)
    samples = session.window.samples
    assert "Train node" in samples._words.text()
    QTest.mouseClick(samples.write, LEFT)
    editor = session.window.inspector.findChild(QWidget, "field:sample_prompts")
    qtbot.waitUntil(lambda: editor.isVisible())
    QTest.keyClicks(editor, "say ax")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    QTest.keyClicks(editor, "say bz")
    assert session.document.graph.node("train").settings["sample_prompts"] == "say ax\nsay bz"


def ask_while_it_trains(session: Session, qtbot: QtBot) -> None:
    """A question of one's own is answered between two steps; then the run is stopped."""
    press(session, "run")
    samples = session.window.samples
    open_tab(session, SAMPLES)
    wait_running(session, qtbot, samples.now.isEnabled)
    wait_running(session, qtbot, lambda: len(samples.grid().steps) > 1)
    QTest.keyClicks(samples.question, "say cy")
    QTest.mouseClick(samples.now, LEFT)
    wait_running(session, qtbot, lambda: "say cy" in samples.grid().prompts)
    press(session, "stop")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert not samples.now.isEnabled()


def train_until_it_ends_early(session: Session, qtbot: QtBot) -> None:
    """Two evaluations without a fall end it; the result is the best one."""
    type_setting(session, qtbot, "train", "early_stopping", "2")
    type_setting(session, qtbot, "train", "max_steps", "60")
    keep = field(session, qtbot, "keep")
    assert isinstance(keep, QComboBox)
    keep.setFocus()
    QTest.keyClick(keep, Qt.Key.Key_Down)
    assert session.document.graph.node("train").settings["keep"] == "best"
    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    state = session.runs.shown.state
    assert state.status == "completed", "\n".join(session.window.log.lines()[-20:])
    assert state.early_stops["train"]["step"] < 60


def marked(session: Session, qtbot: QtBot) -> None:
    """Banner, log, header and plot say where it ended and which evaluation was best."""
    window, state = session.window, session.runs.shown.state
    ended, (step, loss) = state.early_stops["train"], state.metrics["train"].best_eval()
    assert f"Stopped early after step {ended['step']} of 60" in window.banner.text()
    assert any("stopped early" in line for line in window.log.lines())
    open_tab(session, CURVES)
    window.monitor.draw_now()
    assert window.monitor.header.text_of("best").endswith(f" at {step:.0f}")
    assert window.monitor.loss.marks.best == (step, loss)
    assert window.monitor.loss.lines.end.isVisible()
    adapter = next(a for a in state.artifacts if a["kind"] == "adapter")
    assert (adapter["kept_step"], adapter["best_eval_loss"]) == (step, loss)


def samples_are_read(session: Session, qtbot: QtBot) -> None:
    """A column for each evaluation, with the answers of that step; a click opens one."""
    samples = session.window.samples
    open_tab(session, SAMPLES)
    model = samples.table.samples
    evaluated = [int(s) for s in session.runs.shown.state.metrics["train"].eval_step]
    assert [model.prompt(r) for r in range(model.rowCount())] == ["say ax", "say bz"]
    assert [model.step(c) for c in range(model.columnCount())] == [0, *evaluated]
    place = samples.table.visualRect(model.index(1, model.columnCount() - 1)).center()
    QTest.mouseClick(samples.table.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)
    qtbot.waitUntil(samples.reader.isVisible)
    answer = model.sample(1, model.columnCount() - 1)
    assert answer is not None
    assert samples.reader.text.toPlainText().startswith("Prompt\nsay bz\n\nAnswer\n")
    assert answer.text in samples.reader.text.toPlainText()


def insight_is_read(session: Session) -> None:
    """The map of the last step, and the first one by key."""
    open_tab(session, INSIGHT)
    insight = session.window.insight
    last = insight.shown()
    assert last is not None
    assert last.step == session.runs.shown.state.early_stops["train"]["step"]
    insight.slider.setFocus()
    QTest.keyClick(insight.slider, Qt.Key.Key_Home)
    first = insight.shown()
    assert first is not None
    assert first.step < last.step
    assert insight.step.text() == str(first.step)
    assert insight.advice.text()


def helpers() -> list[psutil.Process]:
    """The processes of probes that go on."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "studio.training.estimate.host" in child.cmdline():
                found.append(child)
    return found


def test_a_probe_measures_and_can_be_cancelled(session: Session, qtbot: QtBot) -> None:
    """Two real steps in the background correct the estimate; a cancelled probe leaves nothing."""
    click_node(session, "train")
    strip = session.window.inspector.findChild(EstimateStrip)
    qtbot.waitUntil(lambda: "by formula" in strip.words.text())
    QTest.mouseClick(strip.probe, LEFT)
    assert strip.probe.text() == "Cancel Probe"
    qtbot.waitUntil(lambda: bool(helpers()))
    QTest.mouseClick(strip.probe, LEFT)
    assert (strip.probe.text(), strip.status.text()) == ("Probe", "The probe was cancelled.")
    qtbot.waitUntil(lambda: not helpers())
    assert "by formula" in strip.words.text()

    QTest.mouseClick(strip.probe, LEFT)
    qtbot.waitUntil(lambda: strip.probe.text() == "Probe")
    assert strip.status.text() == "Two steps were trained and measured on this machine."
    qtbot.waitUntil(lambda: "corrected by a probe" in strip.words.text())
    assert strip.time.text().startswith("Time: about ")
    assert "from a probe of today" in strip.time.text()
    assert not strip.dropped.isVisible()

    before = session.document.graph
    session.document.edit(set_setting(before, "train", "batch_size", 16), "Test")
    qtbot.waitUntil(strip.dropped.isVisible)
    assert "does not apply" in strip.dropped.text()
    assert "by formula" in strip.words.text()
    assert not strip.status.isVisible()
    session.document.undo()
    qtbot.waitUntil(lambda: "corrected by a probe" in strip.words.text())
    assert not strip.dropped.isVisible()
