"""The window and its project: open, save, recent, unsaved changes, recovery, problems, layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QTreeWidget
from pytestqt.qtbot import QtBot

from studio.graph import edits
from studio.graph.graph import Graph, Node
from studio.graph.project import journal_path, load_project, save_project, write_journal
from studio.system.paths import assets_dir
from tests.ui import toys
from tests.ui.conftest import MakeSession, close
from ui.dialogs.shortcut_sheet import ShortcutSheet
from ui.style import theme
from ui.style.widgets import child_items, top_items
from ui.window import project_controller
from ui.window.actions import SPECS
from ui.window.session import Session
from ui.window.window_store import WindowStore


def press(session: Session, qtbot: QtBot, key: Qt.Key, *modifiers: Qt.KeyboardModifier) -> None:
    """Press a key with the canvas in focus."""
    session.window.activateWindow()
    session.window.canvas.setFocus()
    held = Qt.KeyboardModifier.NoModifier
    for modifier in modifiers:
        held |= modifier
    qtbot.keyClick(session.window.canvas, key, held)


CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def rename(session: Session, name: str) -> None:
    """An edit of the project."""
    session.document.edit(edits.rename(session.document.graph, name), "rename")


def test_the_window_names_the_project_and_marks_changes(
    make_session: MakeSession, project: Path
) -> None:
    session = make_session(load_project(project), project)
    assert session.window.windowTitle() == "Toys (toys.studio)[*] – LoRA Studio"
    assert not session.window.isWindowModified()
    rename(session, "Other")
    assert session.window.isWindowModified()
    session.document.undo()
    assert not session.window.isWindowModified()


def test_ctrl_s_saves(make_session: MakeSession, project: Path, qtbot: QtBot) -> None:
    session = make_session(load_project(project), project)
    rename(session, "Changed")
    press(session, qtbot, Qt.Key.Key_S, CTRL)
    assert load_project(project).name == "Changed"
    assert not session.window.isWindowModified()


def test_save_as_keeps_relative_files_reachable(
    make_session: MakeSession,
    project: Path,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project.parent / "rows.jsonl").write_text("{}", encoding="utf-8")
    session = make_session(toys.toy_graph(source="rows.jsonl"), project)
    other = tmp_path / "elsewhere"
    other.mkdir()
    chosen = str(other / "copy")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (chosen, ""))
    press(session, qtbot, Qt.Key.Key_S, CTRL, SHIFT)
    saved = load_project(other / "copy.studio")
    assert Path(saved.node("toy").settings["source"]) == project.parent / "rows.jsonl"
    assert session.document.path == other / "copy.studio"


@pytest.mark.parametrize(
    ("chosen", "saved"), [("COPY.STUDIO", "COPY.STUDIO"), ("copy", "copy.studio")]
)
def test_save_as_proposes_a_name_that_every_system_allows(
    make_session: MakeSession,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    saved: str,
) -> None:
    session = make_session(toys.toy_graph("Qwen/3: better?"))
    proposed: list[str] = []

    def choose(*arguments: object) -> tuple[str, str]:
        proposed.append(Path(str(arguments[2])).name)
        return str(tmp_path / chosen), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    press(session, qtbot, Qt.Key.Key_S, CTRL, SHIFT)
    assert proposed == ["Qwen-3- better-.studio"]
    assert session.document.path == tmp_path / saved


def test_the_shipped_project_is_never_written(
    make_session: MakeSession, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = project_controller.starter_path()
    before = starter.read_bytes()
    session = make_session(load_project(starter), starter)
    rename(session, "Mine")
    chosen = tmp_path / "mine.studio"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(chosen), ""))
    press(session, qtbot, Qt.Key.Key_S, CTRL)
    assert starter.read_bytes() == before
    source = load_project(chosen).node("data").settings["source"]
    assert source == "mine-data/wordnet8_train.jsonl"
    shipped = assets_dir() / "data" / "wordnet8_train.jsonl"
    assert (tmp_path / source).read_bytes() == shipped.read_bytes()
    assert (tmp_path / "mine-data" / "LICENSE-WordNet.txt").is_file()


@pytest.mark.parametrize("answer", ["save", "discard", "cancel"])
def test_unsaved_changes_are_asked_about(
    make_session: MakeSession, project: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    session = make_session(load_project(project), project)
    rename(session, "Changed")
    monkeypatch.setattr(project_controller, "ask_unsaved", lambda name, parent: answer)
    left = session.project.new()
    assert left is (answer != "cancel")
    assert load_project(project).name == ("Changed" if answer == "save" else "Toys")
    assert session.document.graph.name == ("Changed" if answer == "cancel" else "Untitled")


def test_recent_projects(make_session: MakeSession, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.studio"
    save_project(other, toys.toy_graph("Other"))
    session = make_session(load_project(project), project)
    session.project.open(other)
    titles = [a.text() for a in session.window.recent_menu.actions()]
    assert [t.split()[0] for t in titles] == ["other", "toys"]
    menu = session.window.recent_menu
    menu.popup(session.window.pos())
    place = menu.actionGeometry(menu.actions()[1]).center()
    QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=place)
    assert session.document.path == project
    assert session.store.last_project() == project


def test_a_last_project_that_is_gone_is_not_opened_again(tmp_path: Path, project: Path) -> None:
    store = WindowStore(tmp_path / "window.ini")
    store.set_last_project(project)
    assert store.last_project() == project
    project.unlink()
    assert store.last_project() is None


def test_a_project_that_cannot_be_opened_leaves_the_old_one(
    make_session: MakeSession, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "newer.studio"
    newer.write_text('{"format": "lora-studio", "version": 99}', encoding="utf-8")
    sentences: list[str] = []
    session = make_session(load_project(project), project)
    monkeypatch.setattr(session.project, "_tell", lambda error: sentences.append(error.sentence))
    assert not session.project.open(newer)
    assert "newer LoRA Studio" in sentences[0]
    assert session.document.path == project


@pytest.mark.parametrize("name", ["toys.studio", "TOYS.STUDIO"])
def test_a_dropped_project_opens(make_session: MakeSession, project: Path, name: str) -> None:
    project = project.rename(project.with_name(name))
    session = make_session(Graph())
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(project))])
    drop = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    session.window.dropEvent(drop)
    assert session.document.path == project


def test_changes_are_kept_and_offered_after_a_crash(
    make_session: MakeSession, project: Path, qtbot: QtBot
) -> None:
    session = make_session(load_project(project), project)
    rename(session, "Half done")
    qtbot.waitUntil(lambda: journal_path(project).exists())
    session.document.undo()
    close(session)
    write_journal(project, edits.rename(load_project(project), "Half done"))
    again = make_session(load_project(project), project)
    assert "were saved" in again.window.banner.text()
    qtbot.mouseClick(again.window.banner.button("Recover"), Qt.MouseButton.LeftButton)
    assert again.document.graph.name == "Half done"
    assert again.document.dirty
    assert again.document.undo_label == "recovered changes"


def test_problems_are_shown_everywhere_and_run_is_refused_without_a_box(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    bad = Graph("Bad", (Node("toy", "toy", {"steps": -3}), Node("gone", "missing_type")))
    session = make_session(bad)
    qtbot.waitUntil(lambda: session.window.status.problems.text() == "2 problems")
    press(session, qtbot, Qt.Key.Key_Return, CTRL)
    qtbot.waitUntil(lambda: session.window.canvas.selected_ids() == ("toy",))
    assert session.window.status.currentMessage().startswith("Not started (2 problems): Toy")
    assert session.runs.phase == "idle"
    assert session.runs.live is None
    assert not QApplication.activeModalWidget()
    qtbot.mouseClick(session.window.status.problems, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(session.window.status.problems, Qt.MouseButton.LeftButton)
    assert session.window.canvas.selected_ids() == ("gone",)


def test_warnings_are_counted_as_warnings(make_session: MakeSession, qtbot: QtBot) -> None:
    graph = Graph("Both", (Node("toy", "toy", {"steps": -3}), Node("mine", "lora")))
    session = make_session(graph)
    status = session.window.status.problems
    qtbot.waitUntil(
        lambda: status.text() == "2 problems, 1 warning"
    )  # LoRA has no model, and no use
    session.document.edit(edits.remove(graph, ["toy"]), "remove")
    qtbot.waitUntil(lambda: status.text() == "1 problem, 1 warning")


def test_mending_a_problem_clears_it(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=-3))
    qtbot.waitUntil(lambda: session.window.status.problems.text() == "1 problem")
    graph = edits.set_setting(session.document.graph, "toy", "steps", 5)
    session.document.edit(graph, "steps")
    qtbot.waitUntil(lambda: session.window.status.problems.text() == "No problems")


def test_undo_and_redo_by_keyboard(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session()
    rename(session, "Changed")
    press(session, qtbot, Qt.Key.Key_Z, CTRL)
    assert session.document.graph.name == "Toys"
    press(session, qtbot, Qt.Key.Key_Z, CTRL, SHIFT)
    assert session.document.graph.name == "Changed"


def test_the_theme_is_switched_and_remembered(
    make_session: MakeSession, home: Path, qtbot: QtBot
) -> None:
    session = make_session()
    press(session, qtbot, Qt.Key.Key_L, CTRL, SHIFT)
    assert not theme.colors().dark
    assert 'theme = "light"' in (home / "config" / "settings.toml").read_text(encoding="utf-8")
    press(session, qtbot, Qt.Key.Key_L, CTRL, SHIFT)
    assert theme.colors().dark


def sheets() -> list[ShortcutSheet]:
    """The shortcut sheets that are open."""
    return [
        w for w in QApplication.topLevelWidgets() if isinstance(w, ShortcutSheet) and w.isVisible()
    ]


def test_the_shortcut_sheet_opens_by_key_and_lists_its_own_keys(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session()
    press(session, qtbot, Qt.Key.Key_Slash, CTRL)
    qtbot.waitUntil(lambda: len(sheets()) == 1)
    tree = sheets()[0].findChild(QTreeWidget, "keys")
    assert isinstance(tree, QTreeWidget)
    rows = {row.text(0): row.text(1) for top in top_items(tree) for row in child_items(top)}
    assert rows["Keyboard Shortcuts"] == "?  or  Ctrl+/"
    assert rows["Guide to This Part of the Window"] == "F1"
    assert rows["Show or hide the help of a field"] == "Shift+F1"
    assert rows["Select the next or previous node"] == "Ctrl+Tab  or  Ctrl+Shift+Tab"
    sheets()[0].close()


@pytest.mark.parametrize("name", ["settings", "shortcuts", "about"])
def test_the_small_windows_open(make_session: MakeSession, qtbot: QtBot, name: str) -> None:
    session = make_session()
    session.window.own[name].trigger()
    qtbot.waitUntil(lambda: any(d.isVisible() for d in session.window.findChildren(QDialog)))
    for dialog in session.window.findChildren(QDialog):
        dialog.close()


def test_no_two_actions_share_a_key(make_session: MakeSession) -> None:
    window = make_session().window
    keys = [k.toString() for a in window.own.values() for k in a.shortcuts()]
    wide = [window.canvas.actions()[n] for n in ("undo", "redo")]
    keys += [k.toString() for a in wide for k in a.shortcuts()]
    assert len(keys) == len(set(keys))
    assert all(QKeySequence(key).toString() for spec in SPECS for key in spec.keys)


def test_the_layout_is_remembered(make_session: MakeSession, home: Path) -> None:
    session = make_session()
    session.window.docks["runs"].hide()
    close(session)
    again = make_session()
    assert again.store.restore_layout(again.window)
    assert again.window.docks["runs"].isHidden()
    assert not again.window.docks["inspector"].isHidden()
