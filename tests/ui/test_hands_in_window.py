"""What a person's hands expect of the whole window: undo of everything, keys, leaving, problems, drops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QAction
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QLineEdit,
    QListWidget,
    QMenu,
    QWidget,
)
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph, Node
from studio.graph.project import journal_path, load_project, save_project
from tests.e2e.window import click_node
from tests.ui import toys
from tests.ui.canvas import hands
from tests.ui.conftest import MakeSession, runs_of
from tests.ui.test_state_of_runs import answer
from ui.window.session import Session

K = Qt.Key
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
LEFT = Qt.MouseButton.LeftButton
FREE = QPoint(30, 30)


@pytest.fixture(autouse=True)
def _empty_clipboard(qapp: QApplication) -> Iterator[None]:
    yield
    QApplication.clipboard().clear()


def key(session: Session, one: Qt.Key, modifiers: Qt.KeyboardModifier = hands.NONE) -> None:
    """Press a key with the canvas in focus."""
    session.window.activateWindow()
    session.window.canvas.setFocus()
    QTest.keyClick(session.window.canvas, one, modifiers)


def edit_menu(session: Session) -> list[QAction]:
    """The actions of the Edit menu."""
    for action in session.window.menuBar().actions():
        menu = action.menu()
        if action.text() == "&Edit" and isinstance(menu, QMenu):
            return menu.actions()
    raise AssertionError


# ------------------------------------------------------------ undo and redo of everything


def drag_a_node(session: Session) -> None:
    canvas = session.window.canvas
    start = hands.header(canvas, "train")
    hands.drag(canvas, start, start + QPoint(40, 60))


def nudge_it(session: Session) -> None:
    click_node(session, "train")
    for one in (K.Key_Right, K.Key_Right, K.Key_Down):
        key(session, one)


def type_a_number(session: Session) -> None:
    click_node(session, "lora")
    field = session.window.inspector.findChild(QWidget, "field:r")
    assert field is not None
    field.setFocus()
    QTest.keyClick(field, K.Key_A, CTRL)
    QTest.keyClicks(field, "24")
    QTest.keyClick(field, K.Key_Return)


def choose_from_a_list(session: Session) -> None:
    click_node(session, "base")
    session.window.inspector.focus_field("base", "dtype")
    field = session.window.inspector.findChild(QComboBox, "field:dtype")
    assert field is not None
    field.setFocus()
    QTest.keyClick(field, K.Key_Down)


def delete_a_node(session: Session) -> None:
    click_node(session, "merge")
    key(session, K.Key_Backspace)


def remove_a_wire(session: Session) -> None:
    canvas = session.window.canvas
    hands.drag(canvas, hands.port(canvas, "export.model", "input"), FREE)


def connect_two_ports(session: Session) -> None:
    canvas = session.window.canvas
    canvas.finder.popup.hide()
    start = hands.port(canvas, "train.adapter", "output")
    hands.drag(canvas, start, hands.port(canvas, "export.model", "input"))


def rename_a_node(session: Session) -> None:
    click_node(session, "train")
    key(session, K.Key_F2)
    QTest.keyClicks(session.window.canvas.titles.line, "Second try")
    QTest.keyClick(session.window.canvas.titles.line, K.Key_Return)


def rename_the_project(session: Session) -> None:
    key(session, K.Key_Escape)
    name = session.window.inspector.findChild(QLineEdit, "project-name")
    assert name is not None
    name.setFocus()
    QTest.keyClicks(name, "!")
    session.window.canvas.setFocus()


def duplicate_a_node(session: Session) -> None:
    click_node(session, "lora")
    key(session, K.Key_D, CTRL)


def paste_two_nodes(session: Session) -> None:
    click_node(session, "lora")
    hands.click(session.window.canvas, hands.header(session.window.canvas, "train"), SHIFT)
    key(session, K.Key_C, CTRL)
    key(session, K.Key_V, CTRL)


def cut_a_node(session: Session) -> None:
    click_node(session, "export")
    key(session, K.Key_X, CTRL)


def add_a_node(session: Session) -> None:
    hands.move(session.window.canvas, FREE)
    key(session, K.Key_Tab)
    line = session.window.canvas.finder.popup.line
    QTest.keyClicks(line, "evaluate")
    QTest.keyClick(line, K.Key_Return)


GESTURES: dict[str, Callable[[Session], None]] = {
    "Move Train": drag_a_node,
    "Move Train ": nudge_it,
    "Change Rank (r)": type_a_number,
    "Change Precision": choose_from_a_list,
    "Delete Merge": delete_a_node,
    "Delete wire": remove_a_wire,
    "Connect to Export": connect_two_ports,
    "Rename Train": rename_a_node,
    "Rename project": rename_the_project,
    "Duplicate LoRA": duplicate_a_node,
    "Paste 2 nodes": paste_two_nodes,
    "Cut Export": cut_a_node,
    "Add Evaluate": add_a_node,
}
"""What the Edit menu calls a gesture -> the gesture."""


@pytest.mark.parametrize("label", GESTURES)
def test_each_gesture_is_one_step_named_in_the_edit_menu(
    make_session: MakeSession, label: str
) -> None:
    session = make_session(hands.starter())
    session.window.canvas.fit_all()
    QApplication.processEvents()
    before = session.document.graph
    assert not edit_menu(session)[0].isEnabled()
    GESTURES[label](session)
    after = session.document.graph
    assert after != before
    assert edit_menu(session)[0].text() == f"Undo {label.strip()}"
    assert session.window.isWindowModified()
    key(session, K.Key_Z, CTRL)
    assert session.document.graph == before
    assert not edit_menu(session)[0].isEnabled()
    assert not session.window.isWindowModified()
    assert edit_menu(session)[1].text() == f"Redo {label.strip()}"
    key(session, K.Key_Z, CTRL | SHIFT)
    assert session.document.graph == after
    assert not edit_menu(session)[1].isEnabled()


# ------------------------------------------------------------ keys of every program


def test_new_open_and_settings_by_key(
    make_session: MakeSession, qtbot: QtBot, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(load_project(project), project)
    key(session, K.Key_N, CTRL)
    assert session.document.path is None
    assert session.document.graph.nodes == ()
    assert session.window.windowTitle().startswith("Untitled")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(project), ""))
    key(session, K.Key_O, CTRL)
    assert session.document.path == project
    assert session.document.graph.has("toy")
    key(session, K.Key_Comma, CTRL)

    def shown() -> list[QDialog]:
        return [d for d in session.window.findChildren(QDialog) if d.isVisible()]

    qtbot.waitUntil(lambda: [d.windowTitle() for d in shown()] == ["Settings"])
    QTest.keyClick(shown()[0], K.Key_Escape)
    qtbot.waitUntil(lambda: not shown())


def test_run_and_stop_by_key(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=2000))
    key(session, K.Key_Return, CTRL)
    qtbot.waitUntil(lambda: session.runs.live is not None and bool(session.runs.live.state.metrics))
    key(session, K.Key_Period, CTRL)
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert runs_of(session)[0].status() == "stopped"


# ------------------------------------------------------------ leaving


@pytest.mark.parametrize("button", ["Save", "Don't Save", "Cancel"])
def test_quit_asks_about_unsaved_changes(
    make_session: MakeSession, qtbot: QtBot, project: Path, button: str
) -> None:
    session = make_session(load_project(project), project)
    rename_the_project(session)
    seen: list[str] = []
    answer(session.window, button, seen)
    key(session, K.Key_Q, CTRL)
    qtbot.waitUntil(lambda: bool(seen))
    assert "Toys!" in seen[0]
    assert session.window.isVisible() == (button == "Cancel")
    assert load_project(project).name == ("Toys!" if button == "Save" else "Toys")


@pytest.mark.parametrize("button", ["Keep Running in the Background", "Stop and Save", "Cancel"])
def test_quit_while_training_offers_to_keep_the_run(
    make_session: MakeSession, qtbot: QtBot, project: Path, button: str
) -> None:
    save_project(project, toys.toy_graph(steps=2000))
    session = make_session(load_project(project), project, run_in="host")
    key(session, K.Key_Return, CTRL)
    qtbot.waitUntil(lambda: session.runs.live is not None and bool(session.runs.live.state.metrics))
    seen: list[str] = []
    answer(session.window, button, seen)
    key(session, K.Key_Q, CTRL)
    qtbot.waitUntil(lambda: bool(seen))
    assert "“Toys” is still running." in seen[0]
    (run,) = runs_of(session)
    if button == "Cancel":
        assert session.window.isVisible()
        assert session.runs.phase == "running"
        return
    qtbot.waitUntil(lambda: not session.window.isVisible())
    assert run.is_running() == button.startswith("Keep")
    if not run.is_running():
        assert run.status() == "stopped"
        assert json.loads(next(run.path.rglob("step.json")).read_text(encoding="utf-8")) > 0


def test_typed_changes_are_offered_after_a_crash(
    make_session: MakeSession, qtbot: QtBot, project: Path
) -> None:
    session = make_session(load_project(project), project)
    rename_the_project(session)
    assert session.window.windowTitle().endswith("[*] – LoRA Studio")
    assert session.window.isWindowModified()
    qtbot.waitUntil(journal_path(project).exists)
    again = make_session(load_project(project), project)
    assert "before the changes to this project were saved" in again.window.banner.text()
    QTest.mouseClick(again.window.banner.button("Recover"), LEFT)
    assert again.document.graph.name == "Toys!"
    assert again.window.isWindowModified()


# ------------------------------------------------------------ problems


def test_a_click_in_the_list_of_problems_leads_to_the_field(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    """Inline and without a dialog; typing at once mends it."""
    session = make_session(Graph("Bad", (Node("toy", "toy", {"nan_at": -3}),)))
    window = session.window
    qtbot.waitUntil(lambda: window.status.problems.text() == "1 problem")
    listed = window.inspector.findChild(QListWidget, "overview-problems")
    assert listed is not None
    assert "NaN at" in listed.item(0).text()
    place = listed.visualItemRect(listed.item(0)).center()
    QTest.mouseClick(listed.viewport(), LEFT, pos=place)
    assert window.canvas.selected_ids() == ("toy",)
    field = window.inspector.findChild(QWidget, "field:nan_at")
    assert field is not None
    qtbot.waitUntil(field.isVisible)
    qtbot.waitUntil(lambda: QApplication.focusWidget() is field)
    assert QApplication.activeModalWidget() is None
    QTest.keyClick(field, K.Key_A, CTRL)
    QTest.keyClicks(field, "3")
    QTest.keyClick(field, K.Key_Return)
    qtbot.waitUntil(lambda: window.status.problems.text() == "No problems")


# ------------------------------------------------------------ drops


def test_a_project_dropped_on_the_canvas_opens(
    make_session: MakeSession, qtbot: QtBot, project: Path
) -> None:
    session = make_session(hands.starter())
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(project))])
    hands.drop(session.window.canvas, data, FREE)
    assert session.document.path == project
    assert [n.id for n in session.document.graph.nodes] == ["toy"]
