"""The quantizations of a GGUF export in the inspector: check boxes with sizes, operated as a user does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QCheckBox, QPushButton, QWidget

from studio.export_folder import gguf_quantizations
from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.system.optional_packages import LLAMA_QUANTIZE
from ui.inspector.editors.check_list import OptionBox
from ui.inspector.panel import InspectorPanel

PATH = "format_settings.quantizations"


@pytest.fixture
def document(tmp_path: Path) -> Document:
    nodes = (
        Node("base", "base_model", {"model": "starter:smollm2-135m"}),
        Node("lora", "lora"),
        Node("train", "train"),
        Node("merge", "merge"),
        Node("export", "export", {"format": "gguf"}),
    )
    wires = (
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
        Wire("train", "adapter", "merge", "adapter"),
        Wire("merge", "model", "export", "model"),
    )
    return Document(Graph("Sizes", nodes, wires), tmp_path / "project.studio")


@pytest.fixture
def panel(qtbot: Any, document: Document) -> InspectorPanel:
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.resize(340, 900)
    panel.show()
    qtbot.waitExposed(panel)
    panel.activateWindow()
    panel.show_nodes(("export",))
    return panel


def box(panel: InspectorPanel, name: str) -> QCheckBox:
    found: QCheckBox = panel.findChild(QCheckBox, f"option:{PATH}:{name}")  # type: ignore[assignment]
    return found


def row(panel: InspectorPanel, name: str) -> OptionBox:
    parent = box(panel, name).parentWidget()
    assert isinstance(parent, OptionBox)
    return parent


def chosen(document: Document) -> Any:
    return document.graph.node("export").settings.get("format_settings", {}).get("quantizations")


def test_each_has_its_size_and_purpose(panel: InspectorPanel) -> None:
    """The recommended ones are shown first; the sizes are those of the starter's files."""
    assert row(panel, "Q8_0").fact.text() == "≈ 145 MB"
    assert row(panel, "Q4_K_M").fact.text() == "≈ 105 MB"
    assert "8.5 bits" in row(panel, "Q8_0").words.text()
    boxes = [b for b in panel.findChildren(QCheckBox) if b.objectName().startswith("option:")]
    assert [b.text() for b in boxes if b.isVisibleTo(panel)] == ["Q8_0", "Q4_K_M"]
    assert box(panel, "Q8_0").isChecked()
    assert len(boxes) == 22
    interface = QAccessible.queryAccessibleInterface(box(panel, "Q8_0"))
    assert interface.text(QAccessible.Text.Name) == "Q8_0, about 145 MB"
    assert "Stays close" in interface.text(QAccessible.Text.Description)


def test_a_folded_group_is_opened_and_counted(
    qtbot: Any, panel: InspectorPanel, document: Document
) -> None:
    header: QPushButton = panel.findChild(QPushButton, "section:Full precision")  # type: ignore[assignment]
    qtbot.mouseClick(header, Qt.MouseButton.LeftButton)
    assert box(panel, "F16").isVisibleTo(panel)
    qtbot.mouseClick(box(panel, "F16"), Qt.MouseButton.LeftButton)
    assert chosen(document) == ["F16", "Q8_0"]  # in the order of the setting
    assert header.accessibleName() == "Full precision · 1 chosen"
    assert row(panel, "F16").fact.text() == "≈ 271 MB"


def test_each_click_is_one_step_to_undo(
    qtbot: Any, panel: InspectorPanel, document: Document
) -> None:
    """With the keyboard: Tab to a box, Space. Undo shows the boxes as before."""
    panel.findChild(QWidget, f"field:{PATH}").setFocus()  # type: ignore[union-attr]
    assert box(panel, "Q8_0").hasFocus()
    qtbot.keyClick(box(panel, "Q8_0"), Qt.Key.Key_Tab)
    qtbot.keyClick(box(panel, "Q4_K_M"), Qt.Key.Key_Space)
    assert box(panel, "Q4_K_M").hasFocus()
    qtbot.keyClick(box(panel, "Q4_K_M"), Qt.Key.Key_Backtab)
    qtbot.keyClick(box(panel, "Q8_0"), Qt.Key.Key_Space)
    assert chosen(document) == ["Q4_K_M"]
    document.undo()
    assert chosen(document) == ["Q8_0", "Q4_K_M"]
    assert (box(panel, "Q8_0").isChecked(), box(panel, "Q4_K_M").isChecked()) == (True, True)
    document.undo()
    assert chosen(document) is None
    assert not box(panel, "Q4_K_M").isChecked()
    box(panel, "Q4_K_M").setFocus()
    for _ in range(2):  # on and off, while the focus stays
        qtbot.keyClick(box(panel, "Q4_K_M"), Qt.Key.Key_Space)
    document.undo()
    assert chosen(document) == ["Q8_0", "Q4_K_M"]


def test_without_any_the_field_says_so(
    qtbot: Any, panel: InspectorPanel, document: Document
) -> None:
    qtbot.mouseClick(box(panel, "Q8_0"), Qt.MouseButton.LeftButton)
    assert chosen(document) == []
    texts = [w.text() for w in panel.findChildren(QWidget, "problem") if w.isVisibleTo(panel)]  # type: ignore[attr-defined]
    assert any("choose at least one quantization" in t for t in texts)


def test_what_is_not_installed_is_marked_with_its_command(
    qtbot: Any, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_quantizations, "find_library", lambda: None)
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.show()
    panel.show_nodes(("export",))
    assert row(panel, "Q4_K_M").mark.text() == "!"
    assert row(panel, "Q8_0").mark.text() == ""
    assert "needs llama.cpp, which is not installed" in box(panel, "Q4_K_M").accessibleName()
    told: Any = panel.findChild(QWidget, "missing-option")
    assert told.isVisibleTo(panel)
    how = f"Install it with: {LLAMA_QUANTIZE.command}"
    assert told.text() == f"! Needs llama.cpp, which is not installed. {how}"
    button: Any = panel.findChild(QWidget, f"install:{LLAMA_QUANTIZE.id}")
    assert button.isVisibleTo(panel)
    assert button.text() == LLAMA_QUANTIZE.button
    monkeypatch.setattr(gguf_quantizations, "find_library", lambda: Path("libggml-base.so"))
    document.notify_listeners()
    assert not told.isVisibleTo(panel)
    assert row(panel, "Q4_K_M").mark.text() == ""


def test_names_of_other_versions_are_kept_until_they_are_cleared(
    qtbot: Any, document: Document, panel: InspectorPanel
) -> None:
    document.edit(set_setting(document.graph, "export", PATH, ["q8_0", "Q9_X"]), "elsewhere")
    assert box(panel, "Q8_0").isChecked()
    assert box(panel, "Q9_X").isChecked()
    qtbot.mouseClick(box(panel, "Q9_X"), Qt.MouseButton.LeftButton)
    assert chosen(document) is None


def test_an_adapter_has_no_sizes(document: Document, qtbot: Any) -> None:
    """It is not quantized, so that the sizes of the model's files would be wrong."""
    graph = document.graph
    wires = (
        *(w for w in graph.wires if w.target != "export"),
        Wire("train", "adapter", "export", "model"),
    )
    panel = InspectorPanel(Document(Graph("A", graph.nodes, wires)), load_registry())
    qtbot.addWidget(panel)
    panel.show()
    panel.show_nodes(("export",))
    assert row(panel, "Q8_0").fact.text() == ""


def test_the_list_of_an_ollama_folder_has_the_sizes_too(
    document: Document, panel: InspectorPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recommended ones first; another base model has other sizes."""
    monkeypatch.setattr(gguf_quantizations, "find_library", lambda: None)
    document.edit(set_setting(document.graph, "export", "format", "ollama"), "Format")
    combo: Any = panel.findChild(QWidget, "field:format_settings.quantization")
    texts = [combo.itemText(i) for i in range(combo.count())]
    assert texts[:2] == ["Q8_0  ≈ 145 MB", "Q4_K_M  ≈ 105 MB  needs llama.cpp, not installed"]
    assert combo.currentText() == "Q8_0  ≈ 145 MB"
    model = "mistralai/Mistral-7B-Instruct-v0.3"
    document.edit(set_setting(document.graph, "base", "model", model), "Model")
    assert combo.currentText() == "Q8_0  ≈ 7.7 GB"
    assert combo.count() == 22
