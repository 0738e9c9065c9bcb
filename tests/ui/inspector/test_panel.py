"""The panel as a whole: what it shows, problems, renaming, reading only, following the document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QListWidget, QPushButton, QWidget

from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.edits import remove, set_setting
from studio.graph.graph import Graph, Node
from studio.graph.registry import Registry, load_registry
from tests.ui.inspector.test_numbers import problems_shown, type_into
from ui.inspector.panel import InspectorPanel

Find = Callable[[str], Any]


def texts(panel: InspectorPanel) -> str:
    """All that can be read in labels."""
    return "\n".join(w.text() for w in panel.findChildren(QLabel) if w.isVisible())


def test_overview_lists_nodes_and_problems(panel: InspectorPanel, qtbot: Any) -> None:
    problem = Problem("Toy: File is missing.", "toy", "source", "Choose one.")
    panel.set_problems([problem])
    panel.show_nodes(())
    nodes = panel.findChild(QListWidget, "overview-nodes")
    assert [nodes.item(i).text() for i in range(2)] == ["Base", "Toy  ·  1 problem"]
    warning = Problem("Toy: slow.", "toy", severity="warning")
    panel.set_problems([problem, warning, warning])
    assert nodes.item(1).text() == "Toy  ·  1 problem, 2 warnings"
    panel.set_problems([warning])
    assert nodes.item(1).text() == "Toy  ·  1 warning"
    panel.set_problems([problem])
    found = panel.findChild(QListWidget, "overview-problems")
    assert "Toy: File is missing." in found.item(0).text()
    with qtbot.waitSignal(panel.problem_activated) as caught:
        place = found.visualItemRect(found.item(0)).center()
        QTest.mouseClick(found.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert caught.args == [problem]


def test_several_nodes_are_counted(panel: InspectorPanel) -> None:
    panel.show_nodes(("base", "toy"))
    assert "2 nodes are selected" in texts(panel)


def test_empty_project_says_what_to_do(panel: InspectorPanel, document: Document) -> None:
    document.replace(Graph(), None)
    assert "Drag a node from the palette" in texts(panel)


def test_rename_the_project(panel: InspectorPanel, document: Document) -> None:
    panel.show_nodes(())
    type_into(panel.findChild(QLineEdit, "project-name"), "New name ")
    assert document.graph.name == "New name"
    assert document.undo_label == "Rename project"


def test_retitle_a_node(panel: InspectorPanel, document: Document) -> None:
    title = panel.findChild(QLineEdit, "node-title")
    assert title.text() == "Toy"
    type_into(title, "My toy")
    assert document.graph.node("toy").title == "My toy"
    document.undo()
    assert document.graph.node("toy").title == ""
    assert title.text() == "Toy"


def test_problem_appears_beside_its_field(panel: InspectorPanel, field: Find) -> None:
    panel.set_problems(
        [
            Problem("Toy: there is no file a.jsonl.", "toy", "source", "Choose another."),
            Problem("Toy: nothing is connected.", "toy", "model", code="unconnected"),
            Problem("Base: something else.", "base", "model"),
        ]
    )
    assert problems_shown(panel) == ["Toy: nothing is connected.", "Toy: there is no file a.jsonl."]
    row = field("source").parentWidget().parentWidget()
    inside = [w.text() for w in row.findChildren(QLabel, "problem")]
    assert inside == ["Toy: there is no file a.jsonl."]
    assert "there is no file" in field("source").accessibleDescription()
    panel.set_problems([])
    assert problems_shown(panel) == []


def test_focus_field_unfolds_its_section(panel: InspectorPanel, field: Find, qtbot: Any) -> None:
    panel.show_nodes(())
    panel.focus_field("toy", "seed")
    qtbot.waitUntil(lambda: field("seed").isVisible() and field("seed").hasFocus())


def test_focus_field_of_a_variant(panel: InspectorPanel, document: Document, field: Find) -> None:
    document.edit(set_setting(document.graph, "toy", "method", "fancy"), "x")
    panel.focus_field("toy", "method_settings.depth")
    assert field("method_settings.depth").hasFocus()
    panel.focus_field("toy", "model")
    panel.focus_field("toy", None)


def test_read_only(panel: InspectorPanel, field: Find, document: Document) -> None:
    panel.set_read_only(True)
    assert not field("r").isEnabled()
    assert "read-only" in texts(panel)
    panel.show_nodes(("base",))
    panel.show_nodes(("toy",))
    assert not field("r").isEnabled()
    panel.set_read_only(False)
    assert field("r").isEnabled()


def test_deleted_node_gives_way_to_the_overview(panel: InspectorPanel, document: Document) -> None:
    document.edit(remove(document.graph, ["toy"]), "Delete")
    assert panel.findChild(QListWidget, "overview-nodes").isVisible()
    document.undo()


def test_unknown_settings_can_be_removed(panel: InspectorPanel, document: Document) -> None:
    document.edit(set_setting(document.graph, "toy", "nope", 1), "x")
    assert problems_shown(panel) == ["Toy: there is no setting “nope”."]
    QTest.mouseClick(panel.findChild(QPushButton, "remove-unknown"), Qt.MouseButton.LeftButton)
    assert dict(document.graph.node("toy").settings) == {}
    assert problems_shown(panel) == []


def test_node_of_an_unknown_type(panel: InspectorPanel, document: Document) -> None:
    document.replace(Graph("x", (Node("a", "alien", {"x": 1}),)), None)
    panel.set_problems([Problem("The node “a” is of a type that is not installed.", "a")])
    panel.show_nodes(("a",))
    assert "not installed" in texts(panel)


def test_panel_can_go_while_the_document_lives(
    qtbot: Any, document: Document, registry: Registry
) -> None:
    panel = InspectorPanel(document, registry)
    panel.show_nodes(("toy",))
    panel.deleteLater()
    QApplication.sendPostedEvents(None, 0)
    QApplication.processEvents()
    del panel
    document.edit(set_setting(document.graph, "toy", "r", 3), "x")


@pytest.mark.parametrize("type_id", sorted(load_registry().nodes))
@pytest.mark.parametrize("percent", [100, 150, 200])
def test_nothing_is_wider_than_300_pixels(qtbot: Any, type_id: str, percent: int) -> None:
    registry = load_registry()
    document = Document(replace(Graph("x"), nodes=(Node("a", type_id),)))
    panel = InspectorPanel(document, registry)
    qtbot.addWidget(panel)
    font = QFont(panel.font())
    font.setPointSizeF(font.pointSizeF() * percent / 100)
    panel.setFont(font)
    panel.resize(300, 700)
    panel.show()
    panel.show_nodes(("a",))
    for _ in range(4):
        QApplication.processEvents()
    # Only the tabs, which are never hidden, may need more than 300 pixels, with letters twice as large.
    limit = panel.width()
    assert limit == 300 or (percent == 200 and limit < 400)
    assert panel._scroll.widget().width() <= limit
    right = panel._scroll.viewport().width()
    for editor in panel.findChildren(QWidget):
        if editor.objectName().startswith(("field:", "reset:")) and editor.isVisible():
            edge = editor.mapTo(panel, editor.rect().topRight()).x()
            assert edge <= right, editor.objectName()
            assert editor.width() >= min(60, editor.sizeHint().width()), editor.objectName()
