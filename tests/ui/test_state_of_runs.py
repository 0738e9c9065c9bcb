"""What the window says about a run after edits, in another project, and when it can be resumed."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph, Node
from studio.graph.project import save_project
from tests.e2e.window import click_node, type_setting
from tests.ui import toys
from tests.ui.conftest import MakeSession, runs_of
from ui.canvas.tips import node_tip, spoken
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
