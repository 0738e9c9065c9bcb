"""A canvas on the starter graph, shown and with the focus; what it says is collected."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from PySide6.QtWidgets import QApplication

from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import load_registry
from tests.ui.canvas import hands
from ui.canvas.view import CanvasView
from ui.style import theme

Make = Callable[..., CanvasView]


@pytest.fixture
def make_canvas(qtbot, qapp: QApplication) -> Iterator[Make]:
    """Makes a shown canvas for a graph, at 100 % around the starter graph."""
    theme.apply(qapp, "dark")

    def make(graph: Graph | None = None, width: int = 1400, height: int = 700) -> CanvasView:
        view = CanvasView(Document(graph), load_registry())
        qtbot.addWidget(view)
        view.resize(width, height)
        with qtbot.waitExposed(view):
            view.show()
        view.activateWindow()
        view.setFocus()
        view.centerOn(630, 150)
        view.said = []
        view.message.connect(view.said.append)
        return view

    yield make
    QApplication.clipboard().clear()


@pytest.fixture
def canvas(make_canvas: Make) -> CanvasView:
    """A canvas on the starter graph."""
    return make_canvas(hands.starter())
