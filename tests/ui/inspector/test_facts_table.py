"""The facts of a model under a node's header: nothing is cut at any width."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from studio.graph.node_type import Fact
from ui.inspector.facts import FactsTable

FACTS = tuple(
    Fact(label, value, "")
    for label, value in (
        ("Parameters", "135 M"),
        ("Layers", "30"),
        ("Hidden size", "576"),
        ("Context", "8,192 tokens"),
        ("Vocabulary", "49,152 tokens"),
        ("Chat template", "yes"),
        ("License", "Apache-2.0"),
        ("On disk", "269 MB"),
        ("Architecture", "LlamaForCausalLM"),
    )
)


@pytest.mark.parametrize(("width", "columns"), [(260, 1), (600, 2)])
def test_every_value_is_read_whole(qtbot: QtBot, width: int, columns: int) -> None:
    table = FactsTable()
    qtbot.addWidget(table)
    table.resize(width, 200)
    table.show_facts(FACTS)
    table.show()
    values = [table.findChild(QLabel, f"fact:{fact.label}") for fact in FACTS]
    for value in values:
        wanted = value.fontMetrics().horizontalAdvance(value.text())
        qtbot.waitUntil(lambda v=value, w=wanted: v.width() >= w)
    assert len({value.x() for value in values}) == columns


def test_another_width_places_them_anew(qtbot: QtBot) -> None:
    table = FactsTable()
    qtbot.addWidget(table)
    table.resize(600, 200)
    table.show_facts(FACTS)
    table.show()
    layers = table.findChild(QLabel, "fact:Layers")
    wide = layers.x()
    table.resize(260, 300)
    qtbot.waitUntil(lambda: layers.x() < wide)
