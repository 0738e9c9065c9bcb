"""What a screen reader finds: every control has a name, and canvas and plots say what they show."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from tests.ui import toys
from tests.ui.canvas.hands import starter
from tests.ui.conftest import MakeSession
from ui.data.tabs import REPORT, ROWS, TOKENS
from ui.dialogs.about import AboutDialog
from ui.dialogs.settings_dialog import SettingsDialog
from ui.inspector.tabs import SETTINGS
from ui.monitor import plot
from ui.window.session import Session

Found = tuple[str, str, str, bool]


def walk(widget: QWidget) -> Iterator[tuple[Any, Found]]:
    """Every visible object with its role, name, description, and whether it takes the focus."""
    stack = [QAccessible.queryAccessibleInterface(widget)]
    while stack:
        now = stack.pop()
        if now is None or not now.isValid() or now.state().invisible:
            continue
        name, described = (
            now.text(t) for t in (QAccessible.Text.Name, QAccessible.Text.Description)
        )
        yield now.object(), (now.role().name, name, described, bool(now.state().focusable))
        stack += [now.child(at) for at in range(now.childCount())]


def unnamed(widget: QWidget) -> list[Any]:
    return [(type(o).__name__, o.objectName()) for o, f in walk(widget) if o and f[3] and not f[1]]


def description(widget: QWidget, name: str) -> str:
    return next((f[2] for _, f in walk(widget) if f[1] == name and f[2]), "")


@pytest.fixture
def session(make_session: MakeSession) -> Session:
    return make_session(starter())


@pytest.mark.parametrize("node", ["", "data", "base", "lora", "train", "merge", "export"])
def test_every_control_has_a_name(session: Session, node: str) -> None:
    session.window.inspector.show_all(True)
    session.window.canvas.select((node,) if node else ())
    found = [f for _, f in walk(session.window)]
    assert len([f for f in found if f[3]]) > 15, "the walk reaches the controls"
    assert unnamed(session.window) == []


@pytest.mark.parametrize("tab", [SETTINGS, ROWS, TOKENS, REPORT])
def test_the_controls_of_the_tabs_have_names(session: Session, qtbot: QtBot, tab: str) -> None:
    session.window.inspector.show_tab("data", tab)
    assert unnamed(session.window) == []


def test_the_controls_of_the_panels_have_names(session: Session) -> None:
    for tab in range(session.window.tabs.count()):
        session.window.tabs.setCurrentIndex(tab)
        assert unnamed(session.window) == []


@pytest.mark.parametrize("dialog", [AboutDialog, SettingsDialog])
def test_the_controls_of_a_dialog_have_names(session: Session, dialog: Any) -> None:
    own = {AboutDialog: "about", SettingsDialog: "settings"}[dialog]
    session.window.own[own].trigger()
    (shown,) = session.window.findChildren(dialog)
    assert unnamed(shown) == []
    shown.close()


def test_the_canvas_says_what_it_shows(session: Session) -> None:
    """The graph as a whole, a node with its state and problems, and the port that has the focus."""
    window = session.window
    window.canvas.select(())
    said = description(window, "Canvas")
    assert said.startswith("Nothing selected. 6 nodes: ")
    assert "Base model to LoRA" in said
    window.canvas.select(("lora",))
    assert description(window, "Canvas").startswith("LoRA, ")
    assert description(window, "Canvas").endswith("3 of 6")


def test_the_plots_say_what_they_show(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a screen reader is active; no platform of the tests has one."""
    monkeypatch.setattr(plot, "QAccessible", SimpleNamespace(isActive=lambda: True))
    session = make_session(toys.toy_graph(steps=9))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: "at step 9" in description(session.window, "Plot: Loss"))
    said = description(session.window, "Plot: Loss")
    assert "from 2 at step 1 to 0.2222 at step 9, lowest 0.2222 at step 9" in said
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
