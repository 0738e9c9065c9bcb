"""Received texts that look like HTML are shown as they are written, and load no images."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF
from PySide6.QtGui import QHelpEvent, QTextDocument
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import QApplication, QLabel, QListWidget, QToolTip, QWidget
from pytestqt.qtbot import QtBot

from studio.errors import Problem
from studio.events import Event
from studio.graph.document import Document
from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import Fact
from studio.graph.registry import load_registry
from studio.runs.progress import progress_of
from studio.runs.samples import SampleGrid
from studio.runs.state import RunState
from tests.ui.canvas import hands
from tests.ui.monitor import fake_run
from ui.canvas.node_paint import badge_rect
from ui.canvas.view import CanvasView
from ui.data.left_over_box import LeftOverBox
from ui.data.row_cards import RowCards
from ui.inspector.facts import FactsTable
from ui.inspector.panel import InspectorPanel
from ui.monitor.evaluation import ExampleTable
from ui.monitor.panel import MonitorPanel
from ui.monitor.sample_table import SampleTable
from ui.window.status import StatusStrip

MARKUP = ["<b>bold</b>", "<img src='file:///x.png'>", "<h1>a</h1> & b"]


def as_shown(tip: str) -> str:
    """The text of a tooltip, as Qt renders it."""
    document = QTextDocument()
    if GuiQt.mightBeRichText(tip):
        document.setHtml(tip)
    else:
        document.setPlainText(tip)
    return document.toPlainText()


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_names_and_answers_is_shown_as_it_is_written(qtbot: QtBot, text: str) -> None:
    """As HTML an answer would look different from what the model wrote, and an image would be loaded."""
    examples, strip = ExampleTable(), StatusStrip()
    qtbot.addWidget(examples)
    qtbot.addWidget(strip)
    example = {"prompt": text, "expected": text, "before": text, "after": text, "cut": ["after"]}
    examples.show_examples([example])
    tips = [as_shown(examples.item(0, column).toolTip()) for column in range(4)]
    assert all(tip.startswith(text) for tip in tips)
    state = RunState()
    state.apply(Event("RunStarted", 1.0, None, {"nodes": [{"id": "a"}], "device": text}))
    state.apply(Event("StepStarted", 2.0, "a", {"title": text}))
    strip.show_run("running", state, None, progress_of(state, 2.0))
    strip.show_problems([Problem(text)])
    assert {strip.run.textFormat(), strip.device.textFormat()} == {GuiQt.TextFormat.PlainText}
    assert (strip.run.text(), strip.device.text()) == (f"{text}: Starting the step", text)
    assert as_shown(strip.problems.toolTip()) == text


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tooltips that were shown, as Qt renders them."""
    found: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda at, tip, *_: found.append(as_shown(tip)))
    return found


def point_at(widget: QWidget, at: QPoint) -> None:
    """Let the mouse rest somewhere."""
    QApplication.sendEvent(widget, QHelpEvent(QEvent.Type.ToolTip, at, widget.mapToGlobal(at)))


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize(
    "node",
    [
        Node("n", "dataset", {"source": "TEXT"}),
        Node("n", "base_model", {"model": "TEXT"}),
        Node("n", "lora", {"target_modules": "TEXT"}),
        Node("n", "TEXT"),
        Node("TEXT", "lora"),
    ],
    ids=["file", "model", "targets", "type", "id"],
)
def test_a_node_of_a_received_project(qtbot: QtBot, node: Node, text: str) -> None:
    settings = {name: value.replace("TEXT", text) for name, value in node.settings.items()}
    node = Node(node.id.replace("TEXT", text), node.type.replace("TEXT", text), settings)
    panel = InspectorPanel(Document(Graph("p", (node,))), load_registry())
    qtbot.addWidget(panel)
    panel.show_nodes((node.id,))
    widgets = [*panel.findChildren(QWidget), panel.findChild(QListWidget, "overview-nodes").item(0)]
    tips = [w.toolTip() for w in widgets]
    assert any(text in as_shown(tip) for tip in tips)
    assert not [tip for tip in tips if text in tip and GuiQt.mightBeRichText(tip)]


@pytest.mark.parametrize("text", MARKUP)
def test_facts_and_names_of_columns(qtbot: QtBot, text: str) -> None:
    facts, columns = FactsTable(), LeftOverBox()
    for box in (facts, columns):
        qtbot.addWidget(box)
    facts.show_facts([Fact("Architecture", text)])
    columns.show_left_over([(text, "unused")], {}, [text], {}, {})
    tips = [
        as_shown(label.toolTip()) for box in (facts, columns) for label in box.findChildren(QLabel)
    ]
    assert tips.count(text) == 2


@pytest.mark.parametrize("text", MARKUP)
def test_rows_of_a_dataset(qtbot: QtBot, text: str) -> None:
    cards = RowCards()
    qtbot.addWidget(cards)
    row = {"messages": [{"role": text, "content": text}]}
    cards.show_rows([{"number": 1, "source": f"{text}.jsonl", "line": 1, "row": row}])
    labels = cards.findChildren(QLabel)
    assert [label.text() for label in labels].count(text) == 2
    assert {label.textFormat() for label in labels} == {GuiQt.TextFormat.PlainText}


@pytest.mark.parametrize("text", MARKUP)
def test_prompts_of_samples(qtbot: QtBot, text: str) -> None:
    table, grid = SampleTable(), SampleGrid()
    qtbot.addWidget(table)
    table.resize(600, 300)
    grid.add({"prompt": text, "step": 1, "text": text, "expected": text})
    table.show_grid(grid)
    table.show()
    point_at(table.verticalHeader().viewport(), QPoint(20, 20))
    lines = as_shown(QToolTip.text()).split("\n")
    assert [line for line in lines if line] == [text, f"Expected: {text}"]
    QToolTip.hideText()


@pytest.mark.parametrize("text", MARKUP)
def test_a_wire_and_a_problem_on_the_canvas(qtbot: QtBot, shown: list[str], text: str) -> None:
    nodes = (
        Node("data", "dataset", title=text),
        Node("train", "train", title=text, position=(400.0, 0.0)),
    )
    view = CanvasView(
        Document(Graph("p", nodes, (Wire("data", "dataset", "train", "dataset"),))), load_registry()
    )
    qtbot.addWidget(view)
    view.resize(900, 500)
    view.show()
    view.set_problems([Problem(text, "data")])
    view.fit_all()
    item = view.graph_scene.nodes["data"]
    badge = view.viewportTransform().map(item.pos() + badge_rect(item).center()).toPoint()
    ends = [hands.port(view, "data.dataset", "output"), hands.port(view, "train.dataset", "input")]
    for at in (badge, (ends[0] + ends[1]) / 2):
        point_at(view.viewport(), at)
    assert shown == [text, f"Dataset: {text} → {text}"]


@pytest.mark.parametrize("text", MARKUP)
def test_why_a_training_ended_early(qtbot: QtBot, shown: list[str], text: str) -> None:
    panel, state = MonitorPanel(), RunState()
    qtbot.addWidget(panel)
    panel.resize(1200, 460)
    panel.show()
    ended = Event("EarlyStopped", 9.0, "train", {"step": 5, "steps": 9, "reason": text})
    for event in (
        *fake_run.beginning(),
        *fake_run.training_starts(),
        *fake_run.training(1, 9, 99),
        ended,
    ):
        state.apply(event)
    panel.show_state(state)
    panel.draw_now()
    view, box = panel.loss.view, panel.loss.view.getViewBox()
    at = view.mapFromScene(box.mapViewToScene(QPointF(5.0, box.viewRect().center().y())))
    # As pyqtgraph passes a move of the mouse on; of real ones it skips those that come fast.
    view.scene().sigMouseMoved.emit(view.mapToScene(at))
    point_at(view.viewport(), at)
    assert shown == [f"Stopped early after step 5 of 9. {text}"]
