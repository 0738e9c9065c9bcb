"""Wires by keyboard alone: made, moved, removed, given up; what the screen and a screen reader show."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from studio.graph.edits import add_node, connect
from studio.graph.graph import Graph, Node, Wire
from tests.ui.canvas.hands import click, header, key, starter, wires, without
from ui.canvas.view import CanvasView
from ui.canvas.wire_item import DraftWire

K = Qt.Key


def focused(view: CanvasView) -> set[str]:
    """The ports with a focus ring, such as ``train.input.dataset``."""
    return {
        ".".join((item.id, *item.focused_port))
        for item in view.graph_scene.nodes.values()
        if item.focused_port is not None
    }


def wires_of(graph: Graph) -> set[str]:
    return {f"{w.source}.{w.source_port} > {w.target}.{w.target_port}" for w in graph.wires}


def drafts(view: CanvasView) -> int:
    return sum(isinstance(item, DraftWire) for item in view.graph_scene.items())


def test_a_wire_is_made(make_canvas):
    view = make_canvas(without("train.dataset"))
    view.select(("data",))
    key(view, K.Key_C)
    assert focused(view) == {"data.output.dataset"}
    key(view, K.Key_Return)
    assert focused(view) == {"data.output.dataset", "train.input.dataset"}
    assert drafts(view) == 1
    key(view, K.Key_Return)
    assert wires(view) == wires_of(starter())
    assert view.document.undo_label == "Connect to Train"
    assert (focused(view), drafts(view), view.key_wires) == (set(), 0, None)
    assert view.selected_ids() == ("data",)


def test_arrow_keys_go_through_the_ports_of_a_node(canvas):
    canvas.select(("train",))
    key(canvas, K.Key_C)
    seen = []
    for arrow in (K.Key_Down, K.Key_Left, K.Key_Up, K.Key_Up, K.Key_Right):
        key(canvas, arrow)
        seen += focused(canvas)
    assert seen == [
        "train.output.model",
        "train.input.model",
        "train.input.dataset",
        "train.input.dataset",
        "train.output.adapter",
    ]


@pytest.mark.parametrize("arrow", [K.Key_Down, K.Key_Up, K.Key_Right, K.Key_Left])
def test_every_port_that_fits_is_reached(make_canvas, arrow):
    """Arrow keys alone reach them all."""
    graph = starter()
    for number in range(3):
        graph = add_node(graph, Node(f"mix{number}", "mix", position=(900, 300 + 200 * number)))
    view = make_canvas(graph)
    view.select(("data",))
    key(view, K.Key_C, K.Key_Return)
    ends = {f"{e.node}.{e.side}.{e.port}" for e in view.key_wires._ends}
    assert len(ends) >= 12
    seen = set()
    for _ in range(2 * len(ends)):
        key(view, arrow)
        seen |= focused(view) - {"data.output.dataset"}
    assert len(seen) >= 3
    for other in (K.Key_Down, K.Key_Right) * 3 * len(ends):
        key(view, other)
        seen |= focused(view) - {"data.output.dataset"}
    assert seen == ends


def test_a_wire_is_moved(make_canvas):
    """Enter at an input takes up its wire, which another input then receives."""
    graph = add_node(starter(), Node("second", "train", position=(520, 400)))
    view = make_canvas(graph)
    view.select(("train",))
    key(view, K.Key_C, K.Key_Left)
    assert focused(view) == {"train.input.dataset"}
    key(view, K.Key_Return)
    assert drafts(view) == 1
    assert "second.input.dataset" in focused(view), "the free port is offered first"
    key(view, K.Key_Return)
    before, after = wires_of(graph), wires(view)
    assert before - after == {"data.dataset > train.dataset"}
    assert after - before == {"data.dataset > second.dataset"}
    view.document.undo()
    assert wires(view) == before


@pytest.mark.parametrize("stage", ["at the port", "while it is held"])
def test_the_wire_of_an_input_is_removed(canvas, stage):
    canvas.select(("merge",))
    before = wires(canvas)
    key(canvas, K.Key_C, K.Key_Left)
    assert focused(canvas) == {"merge.input.adapter"}
    if stage == "while it is held":
        key(canvas, K.Key_Return)
    key(canvas, K.Key_Delete)
    (gone,) = before - wires(canvas)
    assert gone.endswith("> merge.adapter")
    assert canvas.document.graph.has("merge"), "Delete is for the wire, not for the node"
    assert canvas.said[-1] == "Wire removed."
    assert drafts(canvas) == 0
    canvas.document.undo()
    assert wires(canvas) == before


def test_an_output_with_several_wires_names_where_to_remove_them(make_canvas):
    graph = add_node(starter(), Node("second", "train", position=(520, 400)))
    view = make_canvas(connect(graph, Wire("data", "dataset", "second", "dataset")))
    view.select(("data",))
    before = wires(view)
    key(view, K.Key_C)
    assert "2 wires" in view.accessibleDescription()
    key(view, K.Key_Delete)
    assert wires(view) == before
    assert view.said[-1] == "2 wires begin here: remove each at its input."


def test_escape_goes_back_step_by_step(canvas):
    graph = canvas.document.graph
    canvas.select(("data",))
    key(canvas, K.Key_C, K.Key_Return, K.Key_Escape)
    assert (drafts(canvas), focused(canvas)) == (0, {"data.output.dataset"})
    key(canvas, K.Key_Escape)
    assert (focused(canvas), canvas.selected_ids()) == (set(), ("data",))
    key(canvas, K.Key_Escape)
    assert canvas.selected_ids() == ()
    assert canvas.document.graph is graph


@pytest.mark.parametrize("ending", ["click", "focus", "edit", "select"])
def test_other_gestures_end_it(canvas, ending):
    canvas.select(("data",))
    key(canvas, K.Key_C, K.Key_Return)
    if ending == "click":
        click(canvas, header(canvas, "lora"))
    elif ending == "focus":
        canvas.clearFocus()
    elif ending == "edit":
        canvas.editor.retitle("lora", "Mine")
    else:
        canvas.select(("lora",))
    assert (drafts(canvas), focused(canvas), canvas.key_wires) == (0, set(), None)
    assert all(item.lit is None for item in canvas.graph_scene.nodes.values())


def test_tab_adds_a_node_for_the_wire(canvas):
    canvas.select(("data",))
    key(canvas, K.Key_C, K.Key_Return, K.Key_Tab)
    assert canvas.finder.popup.isVisible()
    QTest.keyClick(QApplication.focusWidget(), K.Key_Return)
    added = set(canvas.document.graph.ids()) - set(starter().ids())
    assert len(added) == 1
    assert any(w.startswith("data.dataset > " + next(iter(added))) for w in wires(canvas))


def test_a_node_without_ports_and_a_port_that_nothing_fits(make_canvas):
    view = make_canvas(Graph("T", (Node("lora", "lora"),)))
    view.select(("lora",))
    key(view, K.Key_C, K.Key_Return)
    assert view.said[-1] == "No port of the graph fits Model with LoRA. Tab adds a node for it."
    key(view, K.Key_Escape, K.Key_Escape)
    assert view.key_wires is None


def test_what_a_screen_reader_says(make_canvas):
    view = make_canvas(without("train.dataset"))
    view.select(("train",))
    node = view.accessibleDescription()
    key(view, K.Key_C)
    said = view.accessibleDescription()
    assert said.startswith("Train, output Adapter, connected to Merge, 1 of ")
    key(view, K.Key_Escape)
    assert view.accessibleDescription() == node
    view.select(("data",))
    key(view, K.Key_C)
    assert view.accessibleDescription() == "Dataset, output Dataset, not connected, 1 of 1"
    key(view, K.Key_Return)
    assert view.accessibleDescription().startswith("Train, input Dataset, not connected, ")
    assert "Enter connects" in view.said[-1]


def test_the_focus_can_be_seen(canvas):
    canvas.select(("merge",))
    key(canvas, K.Key_C)
    before = canvas.grab().toImage()
    key(canvas, K.Key_Left)
    assert canvas.grab().toImage() != before


def test_typing_with_modifiers_keeps_its_meaning(canvas):
    canvas.select(("data",))
    canvas.editor.retitle("data", "Mine")
    canvas.select(("data",))
    key(canvas, K.Key_C)
    key(canvas, K.Key_Z, modifiers=Qt.KeyboardModifier.ControlModifier)
    assert canvas.document.graph == starter()
    assert canvas.key_wires is None
