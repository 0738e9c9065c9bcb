"""The form of the Adapter Mix node: the weights of what is connected, and words that fit."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from ui.inspector.panel import InspectorPanel


def field(panel: InspectorPanel, name: str) -> Any:
    return panel.findChild(QWidget, f"field:{name}")


def test_a_weight_is_shown_while_its_input_is_connected(qtbot: QtBot) -> None:
    nodes = (
        Node("one", "load_adapter", {"adapter": "x"}, title="Polite"),
        Node("two", "load_adapter", {"adapter": "y"}, title="Brief"),
        Node("mix", "adapter_mix", {"method": "ties"}),
    )
    first = (Wire("one", "adapter", "mix", "a"),)
    document = Document(Graph("Mix", nodes, first))
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.resize(300, 900)
    panel.show()
    panel.show_nodes(("mix",))
    assert field(panel, "weight_a").isVisibleTo(panel)
    assert not field(panel, "weight_b").isVisibleTo(panel)
    both = Graph("Mix", nodes, (*first, Wire("two", "adapter", "mix", "b")))
    document.edit(both, "Connect")
    assert field(panel, "weight_b").isVisibleTo(panel)
    document.edit(set_setting(both, "mix", "weight_b", 0.5), "Weight")
    document.edit(set_setting(document.graph, "mix", "weight_a", 0.5), "Weight")
    document.edit(Graph("Mix", document.graph.nodes, first), "Disconnect")
    kept = field(panel, "weight_b")  # a changed value does not disappear without a word
    assert kept.isVisibleTo(panel)
    assert not kept.isEnabled()


def test_the_words_for_a_special_value_fit(qtbot: QtBot) -> None:
    """“highest of the adapters” was cut beside its label."""
    document = Document(Graph("Mix", (Node("mix", "adapter_mix", {"method": "ties"}),)))
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.resize(300, 900)
    panel.show()
    panel.show_nodes(("mix",))
    box = field(panel, "r")
    words = box.lineEdit().text()
    assert "highest" in words
    assert box.fontMetrics().horizontalAdvance(words) <= box.lineEdit().width()
