"""What a new user meets in the first hour: names, words and lists that must be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QPushButton,
)
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.system.paths import runs_dir
from studio.system.settings import AppSettings
from tests.ui import toys
from tests.ui.conftest import MakeSession
from ui.dialogs.settings_dialog import SettingsDialog
from ui.dialogs.shortcut_sheet import group_of
from ui.window import run_banners
from ui.window.closing import CloseWhileRunning


def test_the_first_save_names_the_project(
    make_session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(Graph())
    session.window.canvas.add_node_at_center("dataset")
    path = tmp_path / "cats.studio"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    session.window.own["save"].trigger()
    assert load_project(path).name == "cats"
    assert session.window.windowTitle() == "cats[*] – LoRA Studio"
    assert not session.document.dirty


def test_a_second_run_of_the_same_says_that_nothing_changed(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=3))
    for _ in range(2):
        session.window.banner.dismiss()
        session.window.own["run"].trigger()
        qtbot.waitUntil(lambda: session.window.banner.text() != "")
    assert session.window.banner.text().startswith("Nothing has changed")
    assert session.window.monitor is not None


def test_looking_at_an_earlier_run_takes_the_offers_of_the_last_one_away(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=3))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.text() != "")
    first = session.runs.live.folder
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    session.runs.show_run(first)
    assert session.window.banner.text() == ""


def test_the_sheet_of_keys_has_lasting_words(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph())
    session.window.canvas.add_node_at_center("dataset")
    actions = session.window.canvas.actions()
    assert actions["undo"].text() == "Undo Add Dataset"
    rows = dict(group_of("Canvas", actions.values()).rows)
    assert rows["Undo"] == "Ctrl+Z"


def test_the_panel_below_is_named_by_what_it_holds(make_session: MakeSession) -> None:
    panels = [a.text() for a in make_session().window._panel_actions()]
    assert panels == ["Nodes", "Runs", "Inspector", "Curves, Log and Results"]


def test_a_short_list_opens_whole(make_session: MakeSession, qtbot: QtBot) -> None:
    window = make_session().window
    box = QComboBox(window)
    box.addItems(["One", "Two", "Three", "Four"])
    box.setGeometry(100, 100, 200, 30)
    box.show()
    box.showPopup()
    view = box.view()
    qtbot.waitUntil(view.isVisible)
    rows = sum(view.sizeHintForRow(row) for row in range(box.count()))
    assert view.viewport().height() >= rows
    box.hidePopup()


def test_dialogs_use_the_theme_and_show_where_runs_lie(
    home: Path, make_session: MakeSession
) -> None:
    dialog = SettingsDialog(AppSettings(), make_session().window)
    dialog.show()
    QApplication.processEvents()
    row = next(r for r in dialog._form.rows() if r.path == "runs_folder")
    assert row.editor.line.placeholderText() == str(runs_dir())
    box = dialog.findChild(QDialogButtonBox)
    assert all(button.icon().isNull() for button in box.buttons())
    dialog.close()


def test_a_problem_is_read_whole_in_the_list(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(Graph())
    for kind in ("train", "lora", "merge", "export"):
        session.window.canvas.add_node_at_center(kind)
    session.window.canvas.select(())
    found = session.window.inspector.findChild(object, "overview-problems")
    qtbot.waitUntil(lambda: found.count() >= 5)
    assert found.verticalScrollBar().maximum() >= 0
    for index in range(found.count()):
        item = found.item(index)
        room = found.visualItemRect(item).width() - found.iconSize().width() - 2 * 6 - 8
        wrap = Qt.TextFlag.TextWordWrap
        needed = found.fontMetrics().boundingRect(0, 0, room, 999, wrap, item.text()).height()
        assert found.visualItemRect(item).height() >= needed
    assert "the input “Model”" in "\n".join(found.item(i).text() for i in range(found.count()))


def test_saving_moves_nothing_and_keeps_the_run_on_the_nodes(
    make_session: MakeSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph("Untitled", steps=3))
    canvas = session.window.canvas
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    canvas.scale(0.7, 0.7)
    before = canvas.transform()
    path = tmp_path / "dogs.studio"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    session.window.own["save"].trigger()
    assert session.document.graph.name == "dogs"
    assert canvas.transform() == before
    assert session.runs.is_of_project(session.runs.live.folder)
    session.project.open_starter()
    assert not session.runs.is_of_project(session.runs.live.folder)


def test_every_answer_can_be_read(qtbot: QtBot) -> None:
    dialog = CloseWhileRunning("Starter")
    qtbot.addWidget(dialog)
    dialog.show()
    for button in dialog.findChildren(QPushButton):
        assert button.width() >= button.sizeHint().width(), button.text()


def test_a_small_window_keeps_its_palette_and_tabs(make_session: MakeSession, qtbot: QtBot) -> None:
    window = make_session().window
    window.resize(640, 480)
    QApplication.processEvents()
    assert window.palette_panel.width() >= 150
    bar = window.tabs.tabBar()
    assert bar.usesScrollButtons()  # five tabs do not fit beside both docks; each can be reached
    window.resize(1280, 800)
    qtbot.waitUntil(window.monitor.tools._caption.isVisible)
    qtbot.waitUntil(lambda: bar.width() >= bar.sizeHint().width() - 2)


@pytest.mark.parametrize("width", [1280, 1366, 1600])
@pytest.mark.parametrize("trainings", [1, 2])
def test_every_tab_is_in_view_beside_a_wide_inspector(
    make_session: MakeSession, qtbot: QtBot, trainings: int, width: int
) -> None:
    window = make_session().window
    window.resize(width, 800)
    QApplication.processEvents()
    tools = window.monitor.tools
    tools.set_nodes({str(i): f"A training with a title {i}" for i in range(trainings)}, "0")
    window.widen_inspector(True, 0)
    bar = window.tabs.tabBar()
    for results in (0, 128):
        window.show_result_count(results)
        # Qt needs several passes: the docks, the tools that fit beside the tabs, then the tabs
        qtbot.waitUntil(lambda: not tools._caption.isVisible())
        qtbot.waitUntil(lambda: bar.width() >= bar.sizeHint().width())
        assert tools.nodes.isVisible() is (trainings > 1)
    window.widen_inspector(False, 300)
    window.resize(1900, 1000)
    qtbot.waitUntil(tools._caption.isVisible)
    qtbot.waitUntil(lambda: bar.width() >= bar.sizeHint().width())


def test_a_run_in_progress_is_not_called_ready_to_run(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=3))
    session.window.canvas.select(())

    def shown() -> str:
        labels = session.window.inspector.findChildren(QLabel)
        return " ".join(label.text() for label in labels if label.isVisible())

    qtbot.waitUntil(lambda: "ready to run" in shown())
    session.window.own["run"].trigger()
    assert "ready to run" not in shown()
    assert "No problems." in shown()
    assert "ready" not in session.window.status.problems.toolTip()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    assert "ready to run" in shown()


def test_a_run_found_going_on_is_not_told_after_its_end(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=3))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    session.runs.project_opened()  # a run of another project, as it is found at the start
    run_banners.attached(session, session.runs.live.folder)
    session.runs.live.state.status = "stopped"
    run_banners.ended(session, session.runs.live)
    assert session.window.banner.key != "attached"
