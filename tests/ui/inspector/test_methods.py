"""The list of LoRA methods: headings, when to use each, and the keyboard passing over headings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QWidget
from pytestqt.qtbot import QtBot

from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry
from ui.inspector.editors.methods import OPEN_RESEARCH, ROLE_WHEN, fill, in_groups, when_of
from ui.inspector.panel import InspectorPanel
from ui.inspector.row import FieldRow
from ui.inspector.section import Section

POPUP_LETTERS = 70  # as many fit into one line of the list


def test_every_method_says_when_to_use_it_in_one_line() -> None:
    for variant in load_registry().choices("adapter"):
        assert 8 <= len(when_of(variant)) <= POPUP_LETTERS, variant.id
        assert "arXiv" not in when_of(variant), variant.id


def test_methods_stand_in_three_groups() -> None:
    groups = dict(in_groups(list(load_registry().choices("adapter"))))
    assert list(groups) == ["Common", "More", "Research methods"]
    assert [v.id for v in groups["Common"]][:2] == ["lora", "rslora"]
    assert "pissa" in {v.id for v in groups["More"]}
    assert "fourierft" in {v.id for v in groups["Research methods"]}
    assert "miss" in {v.id for v in groups["More"]}


def test_the_keyboard_passes_over_headings(qtbot: Any) -> None:
    combo = QComboBox()
    qtbot.addWidget(combo)
    variants = list(load_registry().choices("adapter"))
    fill(combo, variants, research_open=True)
    combo.show()
    heading = combo.findText("More")
    assert combo.itemData(heading) is None
    combo.setCurrentIndex(heading - 1)
    QTest.keyClick(combo, Qt.Key.Key_Down)
    assert combo.currentIndex() == heading + 1
    assert combo.currentData(ROLE_WHEN)
    known = {combo.itemData(i) for i in range(combo.count())} - {None}
    assert known == {v.id for v in variants}


def listed(combo: QComboBox) -> set[Any]:
    """The methods that can be chosen now."""
    return {combo.itemData(i) for i in range(combo.count())} - {None, OPEN_RESEARCH}


def test_research_methods_are_folded_until_they_are_asked_for(lora: InspectorPanel) -> None:
    """By keyboard alone: End reaches the heading, which unfolds them and keeps the method."""
    registry = load_registry()
    research = {v.id for v in registry.choices("adapter") if v.payload.research}
    (combo,) = lora.findChildren(QComboBox, "field:method")
    assert listed(combo) == {v.id for v in registry.choices("adapter")} - research
    QTest.keyClick(combo, Qt.Key.Key_End)
    assert listed(combo) >= research
    assert combo.currentData() == "lora"
    assert combo.view().isVisible()
    QTest.keyClick(combo.view(), Qt.Key.Key_Return)
    assert combo.currentData() in research


def test_a_node_with_a_research_method_shows_it(lora: InspectorPanel, document: Document) -> None:
    document.edit(set_setting(document.graph, "lora", "method", "hira"), "Method")
    (combo,) = lora.findChildren(QComboBox, "field:method")
    assert (combo.currentData(), combo.currentText()) == ("hira", "HiRA")
    assert OPEN_RESEARCH not in {combo.itemData(i) for i in range(combo.count())}


SHARED = ("r", "alpha", "dropout", "bias", "rank_pattern", "alpha_pattern", "trained_tokens")


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """A LoRA node with an alpha of its own."""
    node = Node("lora", "lora", {"alpha": 64})
    return Document(Graph("Talk", (node,)), tmp_path / "t.studio")


@pytest.fixture
def lora(qtbot: QtBot, document: Document) -> InspectorPanel:
    """The inspector of the node, with all settings."""
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.resize(320, 900)
    panel.show()
    panel.show_all(True)
    panel.show_nodes(("lora",))
    for section in panel.findChildren(Section):
        section.expand()
    return panel


def shown(panel: InspectorPanel) -> set[str]:
    """The shared settings that can be seen."""
    fields = {n: panel.findChildren(QWidget, f"field:{n}") for n in SHARED}
    return {n for n, found in fields.items() if any(w.isVisible() for w in found)}


def choose(panel: InspectorPanel, method: str) -> None:
    """Pick a method from the list."""
    (combo,) = panel.findChildren(QComboBox, "field:method")
    combo.setCurrentIndex(combo.findData(method))
    combo.activated.emit(combo.currentIndex())


def test_only_what_the_method_uses_is_shown(lora: InspectorPanel, document: Document) -> None:
    """A value that was changed stays in sight, greyed out, until it is put back."""
    settings = lambda: dict(document.graph.node("lora").settings)  # noqa: E731
    assert shown(lora) == set(SHARED)
    choose(lora, "vera")
    assert settings() == {"alpha": 64, "method": "vera"}
    assert shown(lora) == {"dropout", "alpha"}
    (row,) = (w for w in lora.findChildren(FieldRow) if w.path == "alpha")
    assert not row.editor.control.isEnabled()
    assert "Not used by VeRA." in row.editor.control.accessibleDescription()
    (reset,) = lora.findChildren(QWidget, "reset:alpha")
    QTest.mouseClick(reset, Qt.MouseButton.LeftButton)
    assert shown(lora) == {"dropout", "alpha"}, "what was used last does not vanish under the mouse"
    choose(lora, "ia3")
    assert shown(lora) == set()
    choose(lora, "lora")
    assert shown(lora) == set(SHARED)
    assert settings() == {}


def test_values_are_kept_while_a_method_does_not_use_them(
    lora: InspectorPanel, document: Document
) -> None:
    choose(lora, "ia3")
    choose(lora, "lora")
    assert document.graph.node("lora").settings == {"alpha": 64}
    (row,) = (w for w in lora.findChildren(FieldRow) if w.path == "alpha")
    assert (row.value, row.editor.control.isEnabled()) == (64, True)


def test_what_is_hidden_is_what_a_check_warns_of() -> None:
    """One list says what a method makes no use of, in the window and in the terminal."""
    registry = load_registry()
    changed = {
        "r": 8,
        "alpha": 8,
        "dropout": 0.1,
        "bias": "all",
        "rank_pattern": "q_proj=4",
        "alpha_pattern": "q_proj=4",
        "trained_tokens": "5",
    }
    for variant in registry.choices("adapter"):
        node = Node("lora", "lora", {**changed, "method": variant.id})
        problems = find_problems(Graph("Talk", (node,)), registry, Path())
        warned = {p.field for p in problems if p.code == "setting_unused"}
        assert warned == set(variant.unused_fields), variant.id
