"""Estimate, “Make it fit” and recipe in the window, on a model of which only the config is there."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QCheckBox, QLabel, QPushButton
from pytestqt.qtbot import QtBot

from studio.estimate import earlier
from studio.estimate import graph as estimates
from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.words import short
from studio.events import Event
from studio.graph.edits import set_setting
from studio.graph.project import load_project
from studio.graph.schema import parse
from studio.runs.folder import create_run
from studio.runs.plan import Plan, Step
from tests.e2e.studio_cli import write_project, write_rows
from tests.ui.conftest import MakeSession
from ui.training.changes import applied, change_of
from ui.training.estimate_strip import EstimateStrip
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
    "architectures": ["LlamaForCausalLM"],
}


@pytest.fixture
def session(make_session: MakeSession, tmp_path: Path, qtbot: QtBot) -> Session:
    """A project whose Train node is shown."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    project = write_project(tmp_path / "p.studio", model, write_rows(tmp_path / "r.jsonl"))
    session = make_session(load_project(project), project)
    session.window.canvas.select(("train",))
    qtbot.waitUntil(lambda: "train" in session.training.watch.found)
    return session


def strip(session: Session) -> EstimateStrip:
    found = session.window.inspector.findChild(EstimateStrip)
    assert found is not None
    return found


def click(box: QCheckBox) -> None:
    """Click the box itself."""
    QTest.mouseClick(box, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(8, box.height() // 2))


def change(session: Session, **settings: Any) -> None:
    graph = session.document.graph
    for field, value in settings.items():
        graph = set_setting(graph, "train", field, value)
    session.document.edit(graph, "Test")


def make_too_large(session: Session, qtbot: QtBot) -> None:
    """Rows of the max length, far more at once than any machine holds."""
    change(session, batching="packed", batch_size=4096, max_length=2048)
    qtbot.waitUntil(lambda: strip(session).words.text().startswith("It does not fit"))


def test_the_estimate_is_on_the_node_and_in_the_inspector(session: Session, qtbot: QtBot) -> None:
    """It follows an edit at once, and adds up in words."""
    found = session.training.watch.found["train"]
    shown = strip(session)
    assert shown.words.text().startswith("It fits: about ")
    assert "by formula" in shown.words.text()
    assert "without running anything" in shown.words.toolTip()
    assert "trains two steps" in shown.probe.toolTip()
    assert not shown.fit.isVisible()
    item = session.window.canvas.graph_scene.nodes["train"]
    assert item.note == short(found)
    assert (
        "Memory ~" in session.window.canvas.graph_scene.nodes["train"].note or item.note[0] == "~"
    )
    shown.details.expand()
    steps = shown.findChild(type(shown.words), "estimate:Steps")
    assert steps is not None
    assert steps.text() == "6"
    change(session, max_steps=1234)
    qtbot.waitUntil(lambda: shown.findChild(type(shown.words), "estimate:Steps").text() == "1,234")
    assert shown.bar.part_at(1).startswith("Weights: ")


def test_the_time_is_told_from_an_earlier_run_once_there_is_one(
    session: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it says what to do; a run that has ended is found by itself."""
    shown = strip(session)
    assert shown.time.text() == "Time: unknown (run a probe or train once)."
    assert "trains two steps" in shown.time.toolTip()
    monkeypatch.setattr(earlier, "machine_key", lambda name: "cpu / cpu / 2")
    monkeypatch.setattr(earlier, "planned_threads", lambda leave_core: 1)
    write_run(session)
    session.runs.changed.emit()
    qtbot.waitUntil(lambda: "from your run of today" in shown.time.text())
    assert shown.time.text().startswith("Time: about ")
    item = session.window.canvas.graph_scene.nodes["train"]
    assert " · ~" in item.note
    assert shown.time.toolTip().startswith("Training ")
    change(session, max_steps=600)
    qtbot.waitUntil(lambda: " min" in shown.time.text() and "to" in shown.time.text())


def write_run(session: Session) -> None:
    """A run of the project as it stands: six steps of two seconds."""
    document = session.document
    step = Step("train", "train", 1, "Train", {}, {}, "f")
    plan = Plan(
        "p", document.project_dir, (step,)
    )  # the weights are missing: it cannot be compiled
    folder = create_run(session.runs.runs_dir, plan, document.graph)
    there = {"device": "cpu", "cpu": "cpu", "cpu_count": 2, "threads": 1}
    folder.environment_path.write_text(json.dumps(there), encoding="utf-8")
    folder.append(Event("RunStarted", 0.0, None, {}))
    folder.append(Event("StepStarted", 1.0, "train", {}))
    for n in range(6):
        metrics = {"step": n + 1, "loss": 1.0, "tokens": 100, "tokens_per_s": 50.0}
        folder.append(Event("Metric", 10.0 + 2 * n, "train", metrics))
    folder.append(Event("RunFinished", 23.0, None, {"status": "completed"}))


def test_an_edit_does_not_make_the_window_wait(
    session: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimates are made in the background."""
    makers: list[threading.Thread] = []

    def made(*given: Any) -> Estimate | None:
        makers.append(threading.current_thread())
        return estimate_graph(*given)

    monkeypatch.setattr(estimates, "estimate_graph", made)
    session.training.watch.check()
    qtbot.waitUntil(lambda: bool(makers))
    assert threading.main_thread() not in makers


def test_make_it_fit_is_one_edit_that_undo_takes_back(session: Session, qtbot: QtBot) -> None:
    make_too_large(session, qtbot)
    before = session.document.graph
    item = session.window.canvas.graph_scene.nodes["train"]
    assert item.note_warns
    qtbot.waitUntil(strip(session).fit.isVisible)
    QTest.mouseClick(strip(session).fit, LEFT)
    dialog = session.training.dialog
    assert dialog is not None
    fields = [row.change.field for row in dialog.rows]
    assert fields[:2] == ["batch_size", "gradient_accumulation_steps"]
    assert all(row.change.reason for row in dialog.rows)
    assert dialog.result_words.text().startswith("It fits")
    batch = dialog.findChild(QCheckBox, "change:train.batch_size")
    assert batch is not None
    click(batch)
    assert dialog.result_words.text().startswith("It does not fit")
    click(batch)
    QTest.mouseClick(dialog.apply, LEFT)
    settings = session.document.graph.node("train").settings
    rows = settings.get("batch_size", 4) * settings["gradient_accumulation_steps"]
    assert rows == 4096
    qtbot.waitUntil(lambda: strip(session).words.text().startswith("It fits"))
    assert session.document.undo_label == "Make It Fit"
    session.document.undo()
    assert session.document.graph == before


def test_a_change_back_to_the_default_leaves_the_setting_out(session: Session) -> None:
    """So that the inspector does not show it as changed."""
    default = session.registry.node_type("train").settings().batch_size
    change(session, batch_size=default + 1)
    graph = session.document.graph
    proposed = change_of(graph, session.registry, "train", "batch_size", default, "Why.")
    assert proposed is not None
    done = applied(graph, session.registry, [proposed])
    assert "batch_size" not in done.node("train").settings


def test_what_cannot_be_made_to_fit_is_not_promised(session: Session, qtbot: QtBot) -> None:
    change(session, batching="packed", batch_size=4096, max_length=1_000_000, pack_length=1_000_000)
    qtbot.waitUntil(lambda: strip(session).words.text().startswith("It does not fit"))
    QTest.mouseClick(strip(session).fit, LEFT)
    dialog = session.training.dialog
    assert dialog is not None
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "Even with all of these changes the training does not fit" in words
    assert "It does not fit" in dialog.result_words.text()
    dialog.reject()


def test_the_recipe_gives_reasons_and_takes_what_is_ticked(session: Session, qtbot: QtBot) -> None:
    before = session.document.graph
    button = strip(session).findChild(QPushButton, "recipe")
    QTest.mouseClick(button, LEFT)
    qtbot.waitUntil(lambda: session.training.dialog is not None)
    dialog = session.training.dialog
    assert dialog is not None
    by_field = {row.change.field: row for row in dialog.rows}
    assert "0.002 → " in by_field["learning_rate"].tick.text()
    assert "Typical for LoRA" in by_field["learning_rate"].change.reason
    for field, row in by_field.items():
        if field != "learning_rate":
            click(row.tick)
    assert dialog.apply.text() == "Apply 1"
    QTest.mouseClick(dialog.apply, LEFT)
    node = session.document.graph.node("train")
    settings = parse(session.registry.node_type("train").settings, dict(node.settings))
    assert settings.learning_rate == by_field["learning_rate"].change.value != 0.01
    assert session.document.undo_label == "Recipe"
    session.document.undo()
    assert session.document.graph == before


def test_the_recipe_says_what_does_not_fit(session: Session, qtbot: QtBot) -> None:
    change(session, batching="packed", batch_size=4096, max_length=1_000_000, pack_length=1_000_000)
    QTest.mouseClick(strip(session).findChild(QPushButton, "recipe"), LEFT)
    qtbot.waitUntil(lambda: session.training.dialog is not None)
    dialog = session.training.dialog
    assert dialog is not None
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "The training does not fit, even with these values" in words
    dialog.reject()


def test_a_model_without_weights_is_not_probed(session: Session, qtbot: QtBot) -> None:
    """The error is shown at once, and the button can be pressed again."""
    shown = strip(session)
    QTest.mouseClick(shown.probe, LEFT)
    qtbot.waitUntil(lambda: "contains no weights" in shown.status.text())
    assert shown.status.isVisible()
    assert shown.probe.text() == "Probe"
    assert shown.probe.isEnabled()

    other = session.window.canvas.add_node_at_center("train")  # the message is not about this one
    qtbot.waitUntil(lambda: session.window.canvas.selected_ids() == (other,))
    qtbot.waitUntil(lambda: strip(session) is not shown)
    second = strip(session)
    assert second.status.isHidden()
    session.window.canvas.select(("train",))
    qtbot.waitUntil(lambda: strip(session) is not second)
    assert "contains no weights" in strip(session).status.text()


def test_proposals_for_another_state_of_the_graph_are_not_applied(
    session: Session, qtbot: QtBot
) -> None:
    """An undo key may come while the dialog is open: what was ticked was meant for what was there."""
    make_too_large(session, qtbot)
    qtbot.waitUntil(strip(session).fit.isVisible)
    QTest.mouseClick(strip(session).fit, LEFT)
    dialog = session.training.dialog
    assert dialog is not None
    session.document.undo()
    undone = session.document.graph
    QTest.mouseClick(dialog.apply, LEFT)
    assert session.document.graph == undone
