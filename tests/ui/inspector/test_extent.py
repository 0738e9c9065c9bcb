"""Essential or all settings: the switch, what stays in sight, and what it is stored as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.registry import load_registry
from tests.ui import toys
from tests.ui.conftest import MakeSession
from tests.ui.inspector.test_numbers import type_into
from ui.data.tabs import ROWS, TOKENS
from ui.inspector.panel import InspectorPanel
from ui.inspector.tabs import SETTINGS
from ui.window.window_store import WindowStore

Find = Callable[[str], Any]


def click(panel: QWidget, name: str) -> None:
    """A left click on a button."""
    (button,) = panel.findChildren(QAbstractButton, name)
    assert button.isVisible()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def test_all_settings_are_shown_by_a_switch_and_by_a_button(
    panel: InspectorPanel, field: Find
) -> None:
    chosen: list[bool] = []
    panel.extent_chosen.connect(chosen.append)
    assert not field("seed").isVisible()
    click(panel, "show:all")
    assert field("seed").isVisible()
    click(panel, "show:essential")
    assert not field("seed").isVisible()
    (more,) = panel.findChildren(QPushButton, "more-settings")
    assert more.text() == "Show 1 More Setting"
    click(panel, "more-settings")
    assert field("seed").isVisible()
    assert more.isHidden()
    assert chosen == [True, False, True]
    panel.show_nodes(())
    panel.show_nodes(("toy",))
    assert field("seed").isVisible(), "the choice holds for every node"


def test_the_switch_by_keyboard(panel: InspectorPanel, field: Find) -> None:
    (button,) = panel.findChildren(QAbstractButton, "show:essential")
    button.setFocus()
    QTest.keyClick(button, Qt.Key.Key_Right)
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    assert field("seed").isVisible()


def test_a_changed_setting_is_always_shown(
    panel: InspectorPanel, field: Find, document: Document
) -> None:
    """Also one with a Problem. While it is reset it stays, since the mouse is over its button."""
    document.edit(set_setting(document.graph, "toy", "seed", 7), "x")
    assert field("seed").isVisible()
    click(panel, "reset:seed")
    assert field("seed").isVisible()
    click(panel, "show:all")
    click(panel, "show:essential")
    assert not field("seed").isVisible()
    panel.set_problems([Problem("Toy: seed.", "toy", "seed")])
    assert field("seed").isVisible()


def test_nothing_to_switch_without_further_settings(panel: InspectorPanel) -> None:
    panel.show_nodes(("base",))
    assert not any(
        w.isVisible() for w in panel.findChildren(QWidget) if w.objectName().startswith("show:")
    )


def test_a_section_without_visible_settings_is_hidden(qtbot: QtBot, tmp_path: Path) -> None:
    node = Node("train", "train")
    panel = InspectorPanel(Document(Graph("T", (node,)), tmp_path / "t.studio"), load_registry())
    qtbot.addWidget(panel)
    panel.resize(340, 900)
    panel.show()
    panel.show_nodes(("train",))

    def sections() -> list[str]:
        found = [w for w in panel.findChildren(QPushButton) if w.isVisible()]
        return [w.text() for w in found if w.objectName().startswith("section:")]

    essential = sections()
    click(panel, "show:all")
    every = sections()
    assert "Advanced" not in " ".join(every)
    assert set(every) - set(essential) == {"Loss", "Full fine-tuning"}
    assert len(every) == len(set(every)), "one section per topic"


@pytest.mark.parametrize("tab", [SETTINGS, ROWS, TOKENS])
def test_the_inspector_names_the_node_in_every_tab(make_session: MakeSession, tab: str) -> None:
    """The title can be edited in each, and its tip names type and ID."""
    session = make_session(
        Graph("T", (Node("data", "dataset", title="My data"), Node("train", "train")))
    )
    panel = session.window.inspector
    panel.show_tab("data", tab)
    (title,) = panel.findChildren(QLineEdit, "node-title")
    assert title.isVisible()
    assert title.text() == "My data"
    assert "Dataset node" in title.toolTip()
    assert "--set data." in title.toolTip()
    type_into(title, "Ours")
    assert session.document.graph.node("data").title == "Ours"
    panel.show_nodes(("train",))
    assert title.text() == "Train"
    assert session.tabs.tab == SETTINGS, "another type of node opens on its settings"
    panel.show_nodes(())
    assert not title.isVisible()


def test_the_choice_is_there_after_the_next_start(make_session: MakeSession) -> None:
    session = make_session(toys.toy_graph())
    session.window.inspector.extent_chosen.emit(True)
    assert session.store.all_settings()
    path = Path(session.store._settings.fileName())
    assert WindowStore(path).all_settings()
    session.window.inspector.extent_chosen.emit(False)
    assert not WindowStore(path).all_settings()
