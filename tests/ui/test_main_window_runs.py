"""The window and its runs: run, stop, resume, look at earlier ones, attach, close while running."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from pytestqt.qtbot import QtBot

from studio.graph.project import load_project
from tests.ui import toys
from tests.ui.conftest import MakeSession, close, runs_of
from ui.monitor.runs_list import OPEN_AFTER_MS
from ui.window import closing
from ui.window.session import Session
from workers import run_thread

LONG = {"steps": 2000, "delay_s": 0.01}
LEFT = Qt.MouseButton.LeftButton


def button(session: Session, name: str) -> object:
    """A button of the tool bar."""
    return session.window.tool_bar.widgetForAction(session.window.own[name])


def points(session: Session) -> int:
    """How many loss points are shown."""
    monitor = session.window.monitor
    assert monitor is not None
    return len(monitor.plot("loss").points("loss")[0])


def wait_for(session: Session, qtbot: QtBot, phase: str) -> None:
    """Wait until the session's run is in this phase."""
    qtbot.waitUntil(lambda: session.runs.phase == phase)


def test_run_shows_points_and_ends_with_results(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=30))
    qtbot.mouseClick(button(session, "run"), LEFT)
    assert not session.window.own["run"].isEnabled()
    wait_for(session, qtbot, "running")
    assert session.window.own["stop"].isEnabled()
    qtbot.waitUntil(lambda: points(session) > 3)
    wait_for(session, qtbot, "idle")
    qtbot.waitUntil(lambda: points(session) == 30)
    window = session.window
    assert runs_of(session)[0].status() == "completed"
    assert window.banner.text().endswith(
        " Loss 2 → 0.06667. Exact match: 0 % → 75 %. Made: report."
    )
    assert window.tabs.tabText(2) == "Results (1)"
    assert "Run completed" in "\n".join(window.log.lines())
    qtbot.mouseClick(window.banner.button("Show Results"), LEFT)
    assert window.results.isVisible()
    assert window.results.bars.text() == "Exact match: 0 % before, 75 % after"
    assert window.own["run"].isEnabled()
    assert not window.own["resume"].isVisible()
    chosen = window.runs.selected()
    assert chosen is not None
    assert chosen.id == runs_of(session)[0].id


def test_finish_ends_the_training_and_completes_the_run(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(**LONG))
    window = session.window
    assert not window.own["finish"].isEnabled()
    window.own["run"].trigger()
    qtbot.waitUntil(lambda: points(session) > 5)
    qtbot.waitUntil(window.own["finish"].isEnabled)
    qtbot.mouseClick(button(session, "finish"), LEFT)
    assert window.own["finish"].text() == "Finishing…"
    assert not window.own["finish"].isEnabled()
    wait_for(session, qtbot, "idle")
    assert runs_of(session)[0].status() == "completed"
    assert window.own["finish"].text() == "Finish Training"
    assert "finished on request" in window.banner.text()
    assert not window.own["resume"].isVisible()


def test_stop_saves_and_resume_goes_on_in_the_same_folder(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=150, delay_s=0.02))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: points(session) > 5)
    qtbot.mouseClick(button(session, "stop"), LEFT)
    assert session.window.own["stop"].text() == "Stopping…"
    assert not session.window.own["stop"].isEnabled()
    wait_for(session, qtbot, "idle")
    assert runs_of(session)[0].status() == "stopped"
    assert session.window.own["resume"].isVisible()
    stopped_at = points(session)
    qtbot.mouseClick(session.window.banner.button("Resume"), LEFT)
    wait_for(session, qtbot, "running")
    wait_for(session, qtbot, "idle")
    assert len(runs_of(session)) == 1
    assert runs_of(session)[0].status() == "completed"
    qtbot.waitUntil(lambda: points(session) == 150)
    assert 5 < stopped_at < 150
    monitor = session.window.monitor
    assert monitor is not None
    assert len(monitor.loss.lines.resumes.xvals) == 1


def test_a_failure_is_told_with_its_place(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=10, fail_at=4))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.text() != "")
    assert session.window.banner.text() == (
        "Failed in Toy after step 3 of 10. Toy: it broke. Set another step."
    )
    assert any(text.endswith(" Set another step.") for text in session.window.log.lines())
    qtbot.mouseClick(session.window.banner.button("Show Node"), LEFT)
    assert session.window.canvas.selected_ids() == ("toy",)


def test_the_graph_stays_editable_while_it_runs(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(**LONG))
    session.window.own["run"].trigger()
    wait_for(session, qtbot, "running")
    session.window.canvas.select(("toy",))
    session.window.canvas.add_node_at_center("dataset")
    assert len(session.document.graph.nodes) == 2
    session.window.own["stop"].trigger()
    wait_for(session, qtbot, "idle")
    assert len(runs_of(session)[0].graph().nodes) == 1


def test_an_earlier_run_is_opened_with_its_curves(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=12))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == 1)
    wait_for(session, qtbot, "idle")
    first = runs_of(session)[0]
    close(session)
    again = make_session(toys.toy_graph(steps=12))
    assert points(again) == 0
    again.window.runs.open_wanted.emit(first)
    qtbot.waitUntil(lambda: points(again) == 12)
    assert again.runs.phase == "idle"
    assert again.window.results.bars.text() == "Exact match: 0 % before, 75 % after"


def test_the_selected_run_is_the_one_that_is_shown(make_session: MakeSession, qtbot: QtBot) -> None:
    """By mouse and by keyboard; a right click only opens the menu."""
    session = make_session(toys.toy_graph(steps=4))
    for count in (1, 2):
        session.window.own["run"].trigger()
        qtbot.waitUntil(lambda count=count: len(runs_of(session)) == count)
        wait_for(session, qtbot, "idle")
        session.document.edit(toys.toy_graph(steps=9), "longer")
    panel = session.window.runs
    panel.refresh()
    session.window.docks["runs"].show()
    session.window.docks["runs"].raise_()
    qtbot.waitUntil(panel.list.isVisible)

    def is_shown(row: int, steps: int) -> bool:
        run = panel.list.item(row).data(Qt.ItemDataRole.UserRole)
        shown, marked = session.runs.shown, panel.selected()
        same = shown is not None and marked is not None and shown.folder.id == marked.id == run.id
        return same and points(session) == steps

    def place(row: int) -> QPoint:
        return panel.list.visualItemRect(panel.list.item(row)).center()

    view = panel.list.viewport()
    qtbot.waitUntil(lambda: is_shown(0, 9))
    qtbot.mouseClick(view, LEFT, pos=place(1))
    qtbot.waitUntil(lambda: is_shown(1, 4))
    qtbot.keyClick(panel.list, Qt.Key.Key_Up)
    qtbot.waitUntil(lambda: is_shown(0, 9))
    qtbot.mouseClick(view, LEFT, Qt.KeyboardModifier.ControlModifier, pos=place(0))
    qtbot.mousePress(view, Qt.MouseButton.RightButton, pos=place(1))
    qtbot.mouseRelease(view, Qt.MouseButton.RightButton, pos=place(1))
    qtbot.wait(2 * OPEN_AFTER_MS)
    assert is_shown(0, 9)
    panel.deleted.emit(runs_of(session)[0])
    assert panel.selected() is None


def test_a_long_earlier_run_is_opened_at_once(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fraction that was read, and then with its curves, log and results."""
    session = make_session(toys.toy_graph(steps=12))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == 1)
    wait_for(session, qtbot, "idle")
    first = runs_of(session)[0]
    log = session.window.log.lines()
    close(session)
    monkeypatch.setattr(run_thread, "MANY_BYTES", 1)
    again = make_session(toys.toy_graph(steps=12))
    monitor = again.window.monitor
    assert monitor is not None
    seen: list[str] = []
    again.runs.reading.connect(lambda _: seen.append(monitor.header.text_of("status")))
    again.window.runs.open_wanted.emit(first)
    qtbot.waitUntil(lambda: points(again) == 12)
    qtbot.waitUntil(lambda: again.window.log.lines() == log)
    assert seen[0] == "Reading its events, 0 %"
    assert monitor.header.text_of("status") == "✓ Completed"
    assert again.window.results.bars.text() == "Exact match: 0 % before, 75 % after"


def test_while_one_runs_another_is_looked_at(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=8))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == 1)
    wait_for(session, qtbot, "idle")
    first = runs_of(session)[0]
    session.document.edit(toys.toy_graph(**LONG), "longer")
    session.window.own["run"].trigger()
    wait_for(session, qtbot, "running")
    session.runs.show_run(first)
    qtbot.waitUntil(lambda: points(session) == 8)
    assert "earlier run" in session.window.banner.text()
    assert session.runs.phase == "running"
    qtbot.mouseClick(session.window.banner.button("Back to Current Run"), LEFT)
    qtbot.waitUntil(lambda: points(session) > 8)
    session.window.own["stop"].trigger()
    wait_for(session, qtbot, "idle")


def test_a_run_outlives_its_window_and_the_next_one_finds_it(
    make_session: MakeSession, qtbot: QtBot, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(toys.toy_graph(**LONG), project, run_in="host")
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: points(session) > 2)
    asked: list[bool] = []
    monkeypatch.setattr(
        closing, "ask_closing", lambda *a, may_keep: (asked.append(may_keep), "keep")[1]
    )
    assert session.window.close()
    assert asked == [True]
    folder = runs_of(session)[0]
    assert folder.is_running()
    again = make_session(toys.toy_graph(**LONG), project, run_in="host")
    qtbot.waitUntil(lambda: again.runs.phase == "running")
    assert again.window.banner.text() == "Toys is running."
    qtbot.waitUntil(lambda: points(again) > 5)
    again.window.own["stop"].trigger()
    wait_for(again, qtbot, "idle")
    assert folder.status() == "stopped"
    assert again.window.own["resume"].isVisible()


def test_closing_while_running_can_be_cancelled_or_stop(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(toys.toy_graph(**LONG))
    session.window.own["run"].trigger()
    wait_for(session, qtbot, "running")
    answers = ["cancel", "stop"]
    monkeypatch.setattr(closing, "ask_closing", lambda *a, **k: answers.pop(0))
    assert not session.window.close()
    assert session.runs.phase == "running"
    assert not session.window.close()
    qtbot.waitUntil(lambda: not session.window.isVisible())
    assert runs_of(session)[0].status() == "stopped"


def test_an_interrupted_run_is_offered_on_start(
    make_session: MakeSession, qtbot: QtBot, project: Path
) -> None:
    session = make_session(load_project(project), project)
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == 1)
    wait_for(session, qtbot, "idle")
    folder = runs_of(session)[0]
    lines = folder.events_path.read_text("utf-8").splitlines(keepends=True)
    folder.events_path.write_text("".join(lines[:-1]), "utf-8")
    close(session)
    again = make_session(load_project(project), project)
    assert again.window.banner.text().startswith("Toys: Interrupted after Toy (today ")
    assert again.window.own["resume"].isEnabled()
    qtbot.mouseClick(again.window.banner.button("Resume"), LEFT)
    qtbot.waitUntil(lambda: folder.status() == "completed")
    wait_for(again, qtbot, "idle")


def test_a_deleted_run_is_no_longer_shown(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=3))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == 1)
    wait_for(session, qtbot, "idle")
    session.window.runs.deleted.emit(runs_of(session)[0])
    assert session.runs.shown is None
    assert session.window.log.lines() == []
