"""Tab goes through buttons and fields in the order in which they are seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from studio.events import Event
from studio.runs.state import RunState
from ui.data.controller import Progress
from ui.data.token_bar import TokenBar
from ui.monitor.samples import SamplesPanel
from ui.training.changes_dialog import ChangesDialog, ProposedChange
from ui.training.estimate_strip import EstimateStrip


def token_bar() -> QWidget:
    """While a search goes on, which can be cancelled."""
    bar = TokenBar()
    bar.show_rows(9)
    bar.show_search(Progress("Looking", 1, 9))
    bar.search.setEnabled(True)
    return bar


def samples() -> QWidget:
    """With an answer, while a training can be asked."""
    panel, state = SamplesPanel(), RunState()
    state.apply(Event("Sample", 0.0, "train", {"prompt": "Hi", "step": 1, "text": "Hello"}))
    panel.show_state(state)
    panel.set_may_ask(True)
    return panel


def changes() -> QWidget:
    """Two proposals."""
    made = [ProposedChange("train", name, 1, name, "2", "1", "Why.") for name in ("one", "two")]
    return ChangesDialog("Recipe", "Values.", made, lambda chosen: "")


def strip() -> QWidget:
    """Everything that an estimate can bring."""
    made = EstimateStrip()
    for part in (made.fit, made.probe, made.details):
        part.show()
    return made


def stops(widget: QWidget) -> list[QWidget]:
    """Where Tab stops, from the first on."""
    found, at = [], widget.nextInFocusChain()
    while at is not widget:
        reached = widget.isAncestorOf(at) and at.isVisible() and at.isEnabled()
        if reached and at.focusPolicy() & Qt.FocusPolicy.TabFocus and at.focusProxy() is None:
            found.append(at)
        at = at.nextInFocusChain()
    return found


@pytest.mark.parametrize("make", [token_bar, samples, changes, strip])
def test_tab_follows_the_eye(qtbot: QtBot, make: Callable[[], QWidget]) -> None:
    widget = make()
    qtbot.addWidget(widget)
    widget.resize(640, 400)
    widget.show()
    qtbot.waitExposed(widget)
    found = stops(widget)
    assert len(found) > 2
    middles = [w.mapTo(widget, QPoint(w.width() // 2, w.height() // 2)) for w in found]
    seen = sorted(range(len(found)), key=lambda i: (round(middles[i].y() / 12), middles[i].x()))
    assert seen == list(range(len(found))), [(w.objectName(), type(w).__name__) for w in found]
