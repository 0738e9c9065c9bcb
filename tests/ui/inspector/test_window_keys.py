"""The panel inside a window with shortcuts of its own, and nodes that go while they are edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMainWindow, QWidget

from studio.graph.document import Document
from studio.graph.edits import remove, set_setting
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from tests.ui.inspector.test_numbers import type_into
from ui.inspector.editors.model import ModelEditor, recent
from ui.inspector.panel import InspectorPanel

Find = Callable[[str], Any]


@pytest.fixture
def window(qtbot: Any, document: Document, registry: Registry) -> QMainWindow:
    """A window with Undo, Run and a shortcut sheet, as the real one has them."""
    window = QMainWindow()
    qtbot.addWidget(window)
    panel = InspectorPanel(document, registry, window)
    window.setCentralWidget(panel)
    window.pressed = []  # type: ignore[attr-defined]
    for name, key in (("undo", "Ctrl+Z"), ("run", "Ctrl+Return"), ("sheet", "?"), ("help", "F1")):
        action = QAction(name, window)
        action.setShortcut(QKeySequence(key))
        action.triggered.connect(lambda checked=False, n=name: window.pressed.append(n))
        window.addAction(action)
    window.resize(340, 700)
    window.show()
    qtbot.waitExposed(window)
    window.activateWindow()
    panel.show_nodes(("toy",))
    return window


def test_undo_and_run_reach_the_window_from_a_field(window: Any) -> None:
    for name in ("r", "source", "note", "schedule"):
        field = window.findChild(QWidget, f"field:{name}")
        field.setFocus()
        window.pressed.clear()
        QTest.keyClick(field, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClick(field, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        assert window.pressed == ["undo", "run"], name


def test_typed_question_mark_stays_in_the_field_and_f1_reaches_the_window(window: Any) -> None:
    field = window.findChild(QWidget, "field:source")
    type_into(field, "a?.csv")
    assert window.pressed == []
    QTest.keyClick(field, Qt.Key.Key_F1)
    assert field.text() == "a?.csv"
    assert window.pressed == ["help"]


def test_node_that_goes_with_half_a_number_in_its_field(
    panel: InspectorPanel, field: Find, document: Document
) -> None:
    type_into(field("rate"), "3e-")
    document.edit(remove(document.graph, ["toy"]), "Delete")
    assert not document.graph.has("toy")
    QApplication.processEvents()
    document.replace(Graph(), None)
    assert document.graph == Graph()


def test_change_from_elsewhere_is_shown(
    panel: InspectorPanel, field: Find, document: Document
) -> None:
    before = document.undo_label
    graph = set_setting(document.graph, "toy", "r", 99)
    graph = set_setting(graph, "toy", "words", ["a", "b"])
    graph = set_setting(graph, "toy", "method", "fancy")
    graph = set_setting(graph, "toy", "method_settings.depth", 7)
    document.edit(graph, "from elsewhere")
    assert field("r").value() == 99
    assert field("words").text() == "a, b"
    assert field("method_settings.depth").value() == 7
    document.undo()
    assert document.undo_label == before, "showing a value is no edit"
    assert field("r").value() == 16


def test_model_is_typed_chosen_or_browsed(
    panel: InspectorPanel,
    document: Document,
    field: Find,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel.show_nodes(("base",))

    def stored() -> Any:
        return document.graph.node("base").settings.get("model")

    combo = field("model")
    assert combo.currentText() == "starter:smollm2-135m"
    type_into(combo, "Qwen/Qwen3-0.6B")
    assert stored() == "Qwen/Qwen3-0.6B"
    folder = tmp_path / "my-model"
    folder.mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(folder))
    editor = combo.parentWidget()
    assert isinstance(editor, ModelEditor)
    editor.browse_folder()
    assert stored() == "my-model"
    assert combo.currentText() == "my-model"
    assert recent() == [str(folder)]
    assert [combo.itemText(i) for i in range(combo.count())][-1] == str(folder)
    combo.textActivated.emit("starter:smollm2-135m")
    assert stored() is None
