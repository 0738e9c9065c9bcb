"""Rows of a form keep their places on the screen while the mouse is over the form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QApplication, QWidget

from studio.errors import Problem
from ui.inspector.panel import InspectorPanel
from ui.inspector.steady_area import SteadyArea

Find = Callable[[str], Any]
ABOVE = [Problem("Toy: something is wrong here.", "toy", "r", "Choose another value. " * 4)]
OF_NODE = [Problem("Toy: nothing is connected.", "toy", "model", "Connect a model. " * 3)]
APART = QPoint(-50, -50)


def place(widget: QWidget) -> int:
    """The height of a widget on the screen, after all layouts."""
    for _ in range(3):
        QApplication.processEvents()
    return widget.mapToGlobal(QPoint(0, 0)).y()


def leave(panel: InspectorPanel) -> None:
    QCursor.setPos(panel.mapToGlobal(APART))
    QApplication.sendEvent(panel.findChild(SteadyArea), QEvent(QEvent.Type.Leave))


@pytest.mark.parametrize(
    "height", [300, 700, 1600], ids=["scrolled", "usual", "without scroll bar"]
)
@pytest.mark.parametrize("problems", [ABOVE, OF_NODE], ids=["of a field", "of the node"])
def test_the_row_under_the_mouse_stays(
    panel: InspectorPanel, field: Find, height: int, problems: list[Problem]
) -> None:
    """When problems appear above it, and when they go."""
    panel.resize(320, height)
    target = field("share")
    panel.findChild(SteadyArea).ensureWidgetVisible(target)
    before = place(target)
    QCursor.setPos(target.mapToGlobal(target.rect().center()))
    panel.set_problems(problems)
    assert place(target) == before
    panel.set_problems([])
    assert place(target) == before
    leave(panel)
    panel.set_problems(problems)
    panel.set_problems([])
    assert place(field("r")) > place(panel)


def test_rows_move_as_usual_without_the_mouse(panel: InspectorPanel, field: Find) -> None:
    leave(panel)
    before = place(field("share"))
    panel.set_problems(ABOVE)
    assert place(field("share")) > before


def test_space_that_held_a_row_is_given_back(panel: InspectorPanel, field: Find) -> None:
    """At the top of the form nothing can be scrolled away: the space goes when the mouse leaves."""
    panel.resize(320, 1600)
    leave(panel)
    top = place(field("r"))
    panel.set_problems(OF_NODE)
    target = field("share")
    held = place(target)
    QCursor.setPos(target.mapToGlobal(target.rect().center()))
    panel.set_problems([])
    assert place(target) == held
    assert place(field("r")) > top
    leave(panel)
    assert place(field("r")) == top
