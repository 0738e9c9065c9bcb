"""Numbers agree wherever they are shown: problems and warnings, rows, results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QListWidget
from pytestqt.qtbot import QtBot

from studio.cli import commands, main
from studio.graph.graph import Graph, Node
from studio.graph.project import load_project, save_project
from studio.graph.registry import Registry
from tests.tiny import write_rows
from tests.ui.conftest import MakeSession
from ui.canvas import text
from ui.canvas.node_paint import badge_rect
from ui.canvas.tips import spoken
from ui.window.session import Session

CONTROL = Qt.KeyboardModifier.ControlModifier
LEFT = Qt.MouseButton.LeftButton


def graph_of(problems: int, warnings: int, rows: Path) -> Graph:
    """The first node has all the problems but one, each unused dataset a warning."""
    nodes: list[Node] = []
    if problems > 1:
        wrong = dict(list({"steps": -1, "delay_s": -1, "fail_at": -1}.items())[: problems - 1])
        nodes.append(Node("many", "toy", wrong, position=(0.0, 0.0)))
    if problems:
        nodes.append(Node("one", "toy", {"steps": -1}, position=(0.0, 300.0)))
    nodes += [
        Node(f"unused{i}", "dataset", {"source": str(rows)}, position=(300.0 * (i + 1), 0.0))
        for i in range(warnings)
    ]
    return Graph("Counts", tuple(nodes) or (Node("good", "toy"),))


def painted(session: Session, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The numbers in the badges of the canvas."""
    found: dict[str, list[str]] = {}
    plain = text.draw

    def note(painter: Any, item: Any, words: str, rect: Any, *more: Any) -> None:
        plain(painter, item, words, rect, *more)
        if item.problems and badge_rect(item).contains(rect):
            found.setdefault(item.id, []).append(words)

    with monkeypatch.context() as patched:
        patched.setattr(text, "draw", note)
        for item in session.window.canvas.graph_scene.nodes.values():
            item.update()
        session.window.canvas.viewport().grab()
    return found


def checked(
    path: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, list[str], list[str]]:
    """Exit code and lines of ``main.py check``."""
    capsys.readouterr()
    code = main(["check", str(path), *options])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


@pytest.mark.parametrize(
    ("problems", "warnings", "words"),
    [
        (0, 0, ""),
        (1, 0, "1 problem"),
        (0, 1, "1 warning"),
        (1, 1, "1 problem, 1 warning"),
        (4, 0, "4 problems"),
        (3, 2, "3 problems, 2 warnings"),
    ],
)
def test_problems_and_warnings_are_counted_alike_everywhere(
    make_session: MakeSession,
    toy_registry: Registry,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problems: int,
    warnings: int,
    words: str,
) -> None:
    """Badges, the list, the status bar, what a screen reader says, a refused Run, and the terminal."""
    rows = tmp_path / "rows.jsonl"
    write_rows(rows)
    project = tmp_path / "counts.studio"
    save_project(project, graph_of(problems, warnings, rows))
    session = make_session(load_project(project), project)
    window = session.window
    window.canvas.fit_all()
    qtbot.waitUntil(lambda: len(session.problems.problems) == problems + warnings)
    assert window.status.problems.text() == (words or "No problems")
    assert window.own["next_problem"].isEnabled() == bool(words)

    of_node = {node.id: "1 warning" for node in session.document.graph.nodes} if words else {}
    of_node |= {"one": "1 problem", "many": f"{problems - 1} problem{'s' * (problems > 2)}"}
    listed = window.inspector.findChild(QListWidget, "overview-problems")
    named = window.inspector.findChild(QListWidget, "overview-nodes")
    assert isinstance(listed, QListWidget)
    assert isinstance(named, QListWidget)
    titles = [label.text() for label in window.inspector.findChildren(QLabel)]
    assert (words or "No problems: ready to run.") in titles
    assert listed.count() == problems + warnings
    badges = painted(session, monkeypatch)
    for i, node in enumerate(session.document.graph.nodes):
        if not words:
            assert "·" not in named.item(i).text()
            assert badges == {}
            continue
        assert named.item(i).text().endswith(f"  ·  {of_node[node.id]}")
        assert badges[node.id] == [of_node[node.id].split()[0]]
        assert f", {of_node[node.id]}: " in spoken(window.canvas.graph_scene.nodes[node.id])

    if problems:
        window.canvas.setFocus()
        QTest.keyClick(window.canvas, Qt.Key.Key_Return, CONTROL)
        qtbot.waitUntil(lambda: window.status.currentMessage().startswith("Not started"))
        many = f" ({problems} problems)" if problems > 1 else ""
        assert window.status.currentMessage().startswith(f"Not started{many}: ")
        assert window.status.problems.text() == words

    monkeypatch.setattr(commands, "load_registry", lambda: toy_registry)
    code, out, err = checked(project, capsys)
    assert code == (2 if problems else 0)
    assert sum(": error: " in line for line in err) == problems
    assert sum(": warning: " in line for line in err) == warnings
    nodes = len(session.document.graph.nodes)
    if problems:
        assert err[-1] == f"{project}: {words}."
        assert not out
    else:
        steps = f"{nodes} step{'s' * (nodes != 1)}"
        assert out == [f"{project}: ready to run, {steps}{f', {words}' * bool(words)}."]
    _, out, _ = checked(project, capsys, "--json")
    severities = [json.loads(line)["severity"] for line in out]
    assert severities.count("error") == problems
    assert severities.count("warning") == warnings


def test_a_node_with_problems_and_warnings_shows_both_numbers(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning is not counted as a problem; a click on the badge leads to the problem."""
    session = make_session(Graph("Both", (Node("mine", "lora", position=(0.0, 0.0)),)))
    window = session.window
    qtbot.waitUntil(lambda: window.status.problems.text() == "1 problem, 1 warning")
    window.canvas.fit_all()
    assert painted(session, monkeypatch) == {"mine": ["1", "1"]}
    item = window.canvas.graph_scene.nodes["mine"]
    at = window.canvas.viewportTransform().map(item.pos() + badge_rect(item).center()).toPoint()
    QTest.mouseClick(window.canvas.viewport(), LEFT, pos=at)
    assert window.canvas.selected_ids() == ("mine",)
    (problem,) = [p for p in session.problems.problems if p.blocks]
    assert window.status.currentMessage().startswith(problem.sentence)
