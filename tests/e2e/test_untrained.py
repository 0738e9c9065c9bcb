"""A project without a training, as a newcomer makes it: drop a file, press Run. The run completes, and before
and after it the window and the terminal say that nothing is trained, and what to add."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QListWidget
from pytestqt.qtbot import QtBot

from studio.graph.edits import retitle
from tests.e2e.studio_cli import studio, write_rows
from tests.e2e.window import LEFT, Open, click_node, press
from ui.window.session import Session

BEFORE = "This project has no Train node: a run only prepares “My data” and trains nothing."
AFTER = "Prepared: “My data”. Nothing was trained."
ADD = (
    "To train, add the nodes Base model, LoRA and Train, connect Base model to LoRA, and LoRA and "
    "“My data” to Train."
)
UNUSED = "My data: not used by any training."
CONNECT = "Connect it to a Train or Evaluate node, or delete it."


@pytest.fixture
def session(open_window: Open) -> Session:
    """The program's window on an empty project."""
    made = open_window(None)
    made.project.new()
    return made


def drop(session: Session, path: Path) -> str:
    """Drop a file on the canvas, as the file manager does; returns the new node."""
    canvas = session.window.canvas
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    place = QPointF(canvas.viewport().rect().center())
    event = QDropEvent(place, Qt.DropAction.CopyAction, data, LEFT, Qt.KeyboardModifier.NoModifier)
    canvas.dropEvent(event)
    (node,) = session.document.graph.ids()
    return node


def test_a_dropped_file_that_is_run_says_that_nothing_is_trained(
    session: Session, qtbot: QtBot, tmp_path: Path
) -> None:
    window, size = session.window, session.window.size()
    node = drop(session, write_rows(tmp_path / "rows.jsonl"))
    session.document.edit(retitle(session.document.graph, node, "My data"), "Rename")
    qtbot.waitUntil(lambda: window.status.problems.text() == "1 warning")

    click_node(session, node)
    assert [p.sentence for p in window.canvas.scene().nodes[node].problems] == [UNUSED]  # its badge
    window.inspector.tabs.choose("settings")
    shown = [w.text() for w in window.inspector.findChildren(QLabel) if w.isVisible()]
    assert UNUSED in shown
    assert CONNECT in shown
    QTest.mouseClick(window.status.problems, LEFT)
    assert window.status.currentMessage() == f"{UNUSED} {CONNECT}"
    window.canvas.select(())
    listed = window.inspector.findChild(QListWidget, "overview-problems")
    assert [listed.item(i).text() for i in range(listed.count())] == [f"{UNUSED}\n{CONNECT}"]

    seen: list[str] = []
    session.runs.run_started.connect(lambda _: seen.append(window.banner.text()))
    press(session, "run")
    qtbot.waitUntil(lambda: window.banner.key == "ended")
    assert seen == [f"{BEFORE} {ADD}"]
    assert f"{BEFORE} {ADD}" in "\n".join(window.log.lines())
    ended = window.banner.text()
    assert ended.startswith("Untitled finished in ")
    assert ended.endswith(f". {AFTER} {ADD}")
    assert window.size() == size.expandedTo(window.minimumSizeHint()), "no banner widens the window"
    assert window.status.currentMessage() == "Run completed. Nothing was trained."

    press(session, "run")  # everything is reused, and nothing is trained again
    qtbot.waitUntil(lambda: "all results were reused" in window.banner.text())
    assert window.banner.text().endswith(f"{AFTER} {ADD}")


def test_the_terminal_says_it_before_and_after(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    data = {"id": "d", "type": "dataset", "title": "My data", "settings": {"source": "rows.jsonl"}}
    file = tmp_path / "p.studio"
    project = {"format": "lora-studio", "version": 3, "name": "p", "nodes": [data], "wires": []}
    file.write_text(json.dumps(project), encoding="utf-8")
    before = [f"{file}: warning: d: {UNUSED} {CONNECT}", f"{file}: info: {BEFORE} {ADD}"]

    checked = studio("check", file)
    assert (checked.code, checked.err.splitlines()) == (0, before)
    codes = [(e["code"], e["severity"]) for e in studio("check", file, "--json").events]
    assert codes == [("unused_node", "warning"), ("no_training", "info")]

    ran = studio("run", file, "--runs", tmp_path / "runs")
    assert ran.code == 0
    assert ran.err.splitlines()[:2] == before
    assert f"{AFTER} {ADD}" in ran.out[ran.out.index("p finished in ") :]
