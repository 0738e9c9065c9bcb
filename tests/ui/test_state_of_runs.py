"""What the window says about a run after edits, in another project, and when it can be resumed."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from studio.cli import listing
from studio.graph.graph import Graph, Node
from studio.graph.project import save_project
from studio.graph.registry import Registry
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step
from studio.runs.state import RunState
from tests.e2e.window import click_node, type_setting, windows
from tests.ui import toys
from tests.ui.conftest import MakeSession, runs_of
from ui.canvas.tips import node_tip, spoken
from ui.monitor.runs_list import sentence
from ui.window.main_window import LEAST_PANEL_PX
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
CONTROL = Qt.KeyboardModifier.ControlModifier


def run_to_its_end(session: Session, qtbot: QtBot) -> None:
    """Press Run and wait."""
    count = len(runs_of(session))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: len(runs_of(session)) == count + 1)
    qtbot.waitUntil(lambda: session.runs.phase == "idle")


def badge(session: Session, node: str) -> str:
    """All that a node says about the shown run."""
    status = session.window.canvas.graph_scene.nodes[node].status
    return status.sentence() if status is not None else ""


def picture(session: Session, node: str) -> QImage:
    """The painted node, not selected."""
    canvas = session.window.canvas
    canvas.select(())
    canvas.viewport().repaint()
    return canvas.viewport().grab(canvas.node_rect_in_view(node)).toImage()


def two_toys() -> Graph:
    """Two nodes that do not depend on each other."""
    settings = {"steps": 5, "delay_s": 0.0}
    nodes = (
        Node("toy", "toy", settings, position=(0.0, 0.0)),
        Node("other", "toy", {**settings, "steps": 6}, position=(300.0, 0.0)),
    )
    return Graph("Toys", nodes)


def test_a_node_that_is_edited_is_marked_until_the_edit_is_undone(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(two_toys())
    run_to_its_end(session, qtbot)
    canvas, monitor = session.window.canvas, session.window.monitor
    assert monitor is not None
    qtbot.waitUntil(lambda: badge(session, "toy").startswith("Done"))
    assert "loss" in badge(session, "toy")
    canvas.fit_all()
    before = picture(session, "toy")
    type_setting(session, qtbot, "toy", "steps", "7")
    qtbot.waitUntil(lambda: badge(session, "toy") == "Changed since this run")
    assert badge(session, "other").startswith("Done")
    canvas.fit_all()
    assert picture(session, "toy") != before
    item = canvas.graph_scene.nodes["toy"]
    assert "Changed since this run" in spoken(item)
    assert "differ from those of the shown run" in node_tip(item, item.pos())
    assert monitor.header.text_of("project") == "changed since this run (1 node)"
    click_node(session, "toy")
    QTest.keyClick(canvas.viewport(), Qt.Key.Key_Z, CONTROL)
    qtbot.waitUntil(lambda: badge(session, "toy").startswith("Done"))
    assert "loss" in badge(session, "toy")
    assert monitor.header.text_of("project") == "–"


def test_moving_and_renaming_a_node_does_not_change_its_result(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(two_toys())
    run_to_its_end(session, qtbot)
    qtbot.waitUntil(lambda: badge(session, "toy").startswith("Done"))
    click_node(session, "toy")
    QTest.keyClick(session.window.canvas.viewport(), Qt.Key.Key_Right)
    assert session.document.graph.node("toy").position != (0.0, 0.0)
    assert badge(session, "toy").startswith("Done")
    click_node(session, "other")
    QTest.keyClick(session.window.canvas.viewport(), Qt.Key.Key_Delete)
    qtbot.waitUntil(lambda: session.runs.fingerprints.found is not None)
    qtbot.waitUntil(lambda: set(session.runs.fingerprints.found or {}) == {"toy"})
    assert badge(session, "toy").startswith("Done")


def test_a_run_of_another_project_is_named(
    make_session: MakeSession, qtbot: QtBot, tmp_path: Path
) -> None:
    session = make_session(two_toys())
    run_to_its_end(session, qtbot)
    monitor = session.window.monitor
    assert monitor is not None
    other = tmp_path / "elsewhere" / "other.studio"
    other.parent.mkdir()
    save_project(other, toys.toy_graph("Another"))
    session.document.mark_saved(other.with_name("saved.studio"))
    session.project.open(other)
    qtbot.waitUntil(lambda: monitor.header.text_of("project") == "another one (Toys)")
    assert badge(session, "toy") == ""


def stop_in_the_middle(session: Session, qtbot: QtBot) -> RunFolder:
    """Start a long run, stop it, and return it."""
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    live = session.runs.live
    assert live is not None
    qtbot.waitUntil(lambda: bool(live.state.metrics))
    session.window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    return runs_of(session)[0]


def answer(owner: QWidget, title: str, seen: list[str]) -> None:
    """Press a button of the open dialog once it is shown, and note its text. Nothing is left after ``owner``."""

    def press() -> None:
        dialog = QApplication.activeModalWidget()
        if dialog is None:
            QTimer.singleShot(20, owner, press)
            return
        seen.append(dialog.accessibleDescription())
        (button,) = [b for b in dialog.findChildren(QPushButton) if b.text() == title]
        QTest.mouseClick(button, LEFT)

    QTimer.singleShot(0, owner, press)


@pytest.mark.parametrize("choice", ["Run with the New Settings", "Resume as It Was", "Cancel"])
def test_resume_names_what_has_changed_and_asks(
    make_session: MakeSession, qtbot: QtBot, choice: str
) -> None:
    session = make_session(toys.toy_graph(steps=2000, delay_s=0.01))
    run = stop_in_the_middle(session, qtbot)
    window = session.window
    assert window.banner.text().startswith("Toys: Stopped in Toy after step ")
    assert window.banner.text().endswith(". It can be resumed from its last checkpoint.")
    type_setting(session, qtbot, "toy", "delay_s", "0")
    type_setting(session, qtbot, "toy", "steps", "30")
    seen: list[str] = []
    answer(session.window, choice, seen)
    qtbot.mouseClick(window.banner.button("Resume"), LEFT)
    qtbot.waitUntil(lambda: bool(seen))
    assert "The project has changed since this run." in seen[0]
    assert "Toy: Steps 2000 → 30" in seen[0]
    assert "Toy: Delay 0.01 → 0" in seen[0]
    if choice == "Cancel":
        qtbot.waitUntil(lambda: session.runs.phase == "idle")
        assert [r.id for r in runs_of(session)] == [run.id]
        return
    qtbot.waitUntil(lambda: session.runs.phase == "running" or len(runs_of(session)) == 2)
    if choice == "Resume as It Was":
        assert session.runs.live is not None
        assert session.runs.live.folder.id == run.id
        qtbot.waitUntil(lambda: badge(session, "toy") == "Changed since this run")
        window.own["stop"].trigger()
        qtbot.waitUntil(lambda: session.runs.phase == "idle")
        assert len(runs_of(session)) == 1
    else:
        qtbot.waitUntil(lambda: session.runs.phase == "idle")
        newest = runs_of(session)[0]
        assert newest.id != run.id
        assert newest.status() == "completed"
        qtbot.waitUntil(lambda: badge(session, "toy").startswith("Done"))


def test_resume_is_not_offered_where_nothing_was_finished(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=10, fail_at=4))
    run_to_its_end(session, qtbot)
    window = session.window
    assert window.banner.text().endswith(" Toy: it broke. Set another step.")
    assert not window.own["resume"].isVisible()
    resume = {a.text(): a for a in window.runs.menu_for(runs_of(session)[0]).actions()}["Resume"]
    assert not resume.isEnabled()
    assert badge(session, "toy").startswith("Failed")


def test_a_failed_run_with_a_finished_step_is_resumed_without_a_promise(
    make_session: MakeSession, qtbot: QtBot, project: Path
) -> None:
    """There is no checkpoint, so none is mentioned, also after the next start."""
    nodes = (
        Node("first", "toy", {"steps": 3, "delay_s": 0.0}, position=(0.0, 0.0)),
        Node("second", "toy", {"steps": 9, "fail_at": 4}, position=(300.0, 0.0)),
    )
    save_project(project, Graph("Toys", nodes))
    session = make_session(Graph("Toys", nodes), project)
    run_to_its_end(session, qtbot)
    assert session.window.own["resume"].isVisible()
    session.window.close()
    again = make_session(Graph("Toys", nodes), project)
    text = again.window.banner.text()
    assert text.startswith("Toys: Failed in Toy (second) after step 3 of 9 (today ")
    assert text.endswith("It can be resumed: finished steps are reused.")


def test_where_a_run_was_stopped_and_resumed_is_said_everywhere(
    make_session: MakeSession,
    qtbot: QtBot,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the node, in header, status bar, banner, list and terminal, and at the next start."""
    graph = toys.toy_graph(steps=2000, delay_s=0.02)
    save_project(project, graph)
    session = make_session(graph, project)
    window = session.window
    window.own["run"].trigger()
    steps = lambda: len(window.monitor.loss.points("loss")[0])  # noqa: E731
    qtbot.waitUntil(lambda: steps() > 3)
    window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    first = place_in(window.banner.text())
    assert first.startswith("after step ")
    qtbot.waitUntil(lambda: badge(session, "toy").endswith(f", {first}"))
    assert window.monitor.header.text_of("resumed") == "–"

    window.own["resume"].trigger()
    resumed = f"resumed {first.partition(' of ')[0]}"
    qtbot.waitUntil(lambda: window.status.run.text().endswith(f" ({resumed})"))
    assert resumed in badge(session, "toy")
    assert f"resumed {window.monitor.header.text_of('resumed')}" == resumed
    count = steps()
    qtbot.waitUntil(lambda: steps() > count)
    window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    text = window.banner.text()
    assert f", {resumed}. " in text
    ended = text.removeprefix("Toys: ").partition(". ")[0]
    qtbot.waitUntil(lambda: badge(session, "toy").endswith(ended.removeprefix("Stopped in Toy ")))
    (run,) = runs_of(session)
    qtbot.waitUntil(lambda: ended in sentence(window.runs.summary(run.id)))
    capsys.readouterr()
    listing.runs(argparse.Namespace(runs=run.path.parent, json=False))
    assert capsys.readouterr().out == f"{run.id:<40} {'Stopped':<12} Toys · {ended}\n"
    window.close()
    again = make_session(graph, project)
    assert again.window.banner.text().startswith(f"Toys: {ended} (today ")


def place_in(text: str) -> str:
    """``after step 3 of 9`` of the sentence of a banner."""
    return text.removeprefix("Toys: Stopped in Toy ").partition(".")[0]


def test_nothing_of_an_earlier_run_stays_in_the_plots(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    """Curves, axes, legends and marks; in their place there is a sentence."""
    session = make_session(toys.toy_graph(steps=40, delay_s=0.0, recover_at=3))
    run_to_its_end(session, qtbot)
    monitor = session.window.monitor
    assert monitor is not None
    loss = monitor.loss
    qtbot.waitUntil(lambda: len(loss.points("loss")[0]) == 40)
    assert loss.placeholder() == ""
    assert loss.marks.tips
    assert "0.05" in loss.legend.text()
    folder = runs_of(session)[0]
    monitor.show_state(RunState())  # as for a run that was just started
    assert all(plot.placeholder() == "No values yet." for plot in monitor.plots if plot.isVisible())
    assert not any(len(loss.points(curve.key)[0]) for curve in loss.spec.curves)
    assert "0.05" not in loss.legend.text()
    assert loss.marks.tips == ()
    monitor.show_state(None)
    assert not loss.isVisible()
    session.runs.show_run(folder)
    qtbot.waitUntil(lambda: len(loss.points("loss")[0]) == 40)
    session.window.runs.deleted.emit(folder)
    assert session.runs.shown is None
    assert loss.marks.tips == ()
    assert monitor.header.text_of("project") == "–"


def test_a_banner_lies_over_the_canvas(make_session: MakeSession, qtbot: QtBot) -> None:
    """Nothing moves under the mouse when it comes and goes."""
    session = make_session(two_toys())
    window = session.window
    before = window.canvas.mapToGlobal(window.canvas.rect().topLeft()), window.canvas.size()
    window.banner.offer("error", "circle-x", "It broke. " * 40, [("Show Log", print)])
    QApplication.processEvents()
    assert window.banner.isVisible()
    assert window.banner.width() == window.canvas.width()
    after = window.canvas.mapToGlobal(window.canvas.rect().topLeft()), window.canvas.size()
    assert before == after
    window.canvas.fit_all()
    top = min(window.canvas.node_rect_in_view(node).top() for node in ("toy", "other"))
    assert top > window.banner.height()
    qtbot.mouseClick(window.banner.button("Show Log"), LEFT)
    assert not window.banner.isVisible()


def test_the_panel_below_is_folded_until_there_is_a_run(
    qtbot: QtBot, qapp: QApplication, home: Path, toy_registry: Registry, project: Path
) -> None:
    with windows(qtbot, qapp) as open_window:
        session = open_window(project)
        panel = session.window.docks["monitor"]
        assert panel.isHidden()
        panel.toggleViewAction().trigger()
        assert panel.isVisible()
        panel.toggleViewAction().trigger()
        assert panel.isHidden()
        session.store._settings.remove("panel/choice")
        session.runs.show_run(a_run(session, project))
        qtbot.waitUntil(panel.isVisible)
        assert panel.height() >= LEAST_PANEL_PX
        assert session.window.tabs.isVisible()


@pytest.mark.parametrize("choice", ["open", "closed"])
def test_the_choice_for_the_panel_is_kept(
    qtbot: QtBot, qapp: QApplication, home: Path, toy_registry: Registry, project: Path, choice: str
) -> None:
    with windows(qtbot, qapp) as open_window:
        session = open_window(project)
        toggle = session.window.docks["monitor"].toggleViewAction()
        toggle.trigger()
        if choice == "closed":
            toggle.trigger()
        session.window.close()
        again = open_window(project)
        panel = again.window.docks["monitor"]
        assert panel.isVisible() == (choice == "open")
        run = a_run(again, project)
        again.runs.show_run(run)
        assert panel.isVisible() == (choice == "open")
        again.window.runs.open_wanted.emit(run)  # as a click on the run does
        assert panel.isVisible()


def a_run(session: Session, project: Path) -> RunFolder:
    """A run that has done nothing."""
    graph = toys.toy_graph()
    step = Step("toy", "toy", 1, "Toy", {}, {}, "f")
    plan = Plan(graph.name, project.parent, (step,))
    return RunFolder.create(session.runs.runs_dir, plan, graph)
