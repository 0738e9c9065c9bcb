"""Dragging wires: acceptance while dragging, reasons, replacing, moving, taking off, adding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest

from studio.graph import edits
from studio.graph.graph import Node, Wire
from studio.graph.registry import load_registry
from studio.graph.wires import check_wire
from tests.ui.canvas.hands import (
    drag,
    drag_to,
    key,
    move,
    port,
    press,
    release,
    starter,
    wires,
    without,
)
from ui.canvas.wire_item import DraftWire
from ui.canvas.wire_rules import End, acceptable, wire_between

FREE = QPoint(700, 620)


def lit(view):
    """The ports that light up."""
    return {
        f"{item.id}.{name}"
        for item in view.graph_scene.nodes.values()
        for _, name in item.lit or ()
    }


def test_connect_from_an_output(make_canvas):
    view = make_canvas(without("train.dataset"))
    drag(view, port(view, "data.dataset", "output"), port(view, "train.dataset", "input"))
    assert "data.dataset > train.dataset" in wires(view)
    assert view.document.undo_label == "Connect to Train"
    assert len(view.graph_scene.items()) == 6 + 5
    view.document.undo()
    assert view.document.graph == without("train.dataset")


def test_connect_from_an_input_backwards(make_canvas):
    view = make_canvas(without("train.dataset"))
    drag(view, port(view, "train.dataset", "input"), port(view, "data.dataset", "output"))
    assert "data.dataset > train.dataset" in wires(view)


def test_drop_on_the_body_takes_the_port_that_fits(make_canvas):
    view = make_canvas(without("train.model"))
    drag(view, port(view, "lora.model", "output"), view.node_rect_in_view("train").center())
    assert "lora.model > train.model" in wires(view)


def test_compatible_ports_light_up_and_others_dim(make_canvas):
    view = make_canvas(without("train.dataset"))
    drag_to(view, port(view, "data.dataset", "output"), FREE)
    assert lit(view) == {"data.dataset", "train.dataset"}
    assert view.graph_scene.nodes["merge"].lit == frozenset()
    release(view, FREE)
    assert all(item.lit is None for item in view.graph_scene.nodes.values())
    view.finder.popup.hide()


def test_wrong_type_is_refused_with_its_reason(make_canvas):
    view = make_canvas(without("train.model"))
    drag_to(view, port(view, "data.dataset", "output"), port(view, "train.model", "input"))
    assert "accepts Model with LoRA or Model or Adapter here" in view.said[-1]
    note = next(i for i in view.graph_scene.items() if type(i).__name__ == "Note")
    assert note.isVisible()
    release(view, port(view, "train.model", "input"))
    assert view.document.graph == without("train.model")
    assert len(view.graph_scene.items()) == 6 + 4


def test_loop_is_refused(make_canvas):
    graph = starter()
    graph = edits.add_node(graph, Node("lora2", "lora", position=(260.0, 320.0)))
    view = make_canvas(edits.disconnect(graph, Wire("base", "model", "lora", "model")))
    drag(view, port(view, "merge.model", "output"), port(view, "lora.model", "input"))
    assert "cycle" in view.said[-1]
    assert "merge.model > lora.model" not in wires(view)
    drag(view, port(view, "merge.model", "output"), port(view, "lora2.model", "input"))
    assert "merge.model > lora2.model" in wires(view)


def test_two_outputs_and_the_own_node_are_refused(canvas):
    drag(canvas, port(canvas, "base.model", "output"), port(canvas, "data.dataset", "output"))
    assert "an output to an input" in canvas.said[-1]
    drag(canvas, port(canvas, "train.adapter", "output"), port(canvas, "train.model", "input"))
    assert canvas.said[-1] == "A node cannot be connected to itself."
    assert canvas.document.graph == starter()


def test_node_without_a_fitting_side_says_so(canvas):
    drag(
        canvas,
        port(canvas, "merge.model", "output"),
        canvas.node_rect_in_view("data").center() - QPoint(20, 0),
    )
    assert canvas.said[-1] == "Dataset has no input."


def test_a_taken_input_is_replaced_in_one_step(make_canvas):
    other = Node("data2", "dataset", position=(260.0, 0.0))
    view = make_canvas(edits.add_node(starter(), other))
    before = view.document.graph
    drag(view, port(view, "data2.dataset", "output"), port(view, "train.dataset", "input"))
    assert "data2.dataset > train.dataset" in wires(view)
    assert "data.dataset > train.dataset" not in wires(view)
    assert view.said[-1] == "Replaced the wire from Dataset."
    view.document.undo()
    assert view.document.graph == before


def test_dragging_an_inputs_wire_moves_it(make_canvas):
    graph = edits.add_node(starter(), Node("train2", "train", position=(520.0, 280.0)))
    view = make_canvas(graph)
    start, end = port(view, "train.model", "input"), port(view, "train2.model", "input")
    drag(view, start, end)
    assert "lora.model > train2.model" in wires(view)
    assert "lora.model > train.model" not in wires(view)
    assert view.document.undo_label == "Move wire to Train"
    view.document.undo()
    assert view.document.graph == graph
    assert len(view.graph_scene.wires) == 5


def test_putting_a_wire_back_changes_nothing(canvas):
    start = port(canvas, "train.model", "input")
    drag_to(canvas, start, FREE)
    wire = Wire("lora", "model", "train", "model")
    assert not canvas.graph_scene.wires[wire].isVisible()
    move(canvas, start)
    release(canvas, start)
    assert canvas.graph_scene.wires[wire].isVisible()
    assert canvas.document.undo_label is None


def test_dropping_an_inputs_wire_in_the_open_takes_it_off(canvas):
    drag(canvas, port(canvas, "train.model", "input"), FREE)
    assert "lora.model > train.model" not in wires(canvas)
    assert canvas.document.undo_label == "Delete wire"


def test_escape_leaves_everything_as_it_was(canvas):
    drag_to(canvas, port(canvas, "train.model", "input"), FREE)
    key(canvas, Qt.Key.Key_Escape)
    release(canvas, FREE)
    assert canvas.document.graph == starter()
    assert all(item.isVisible() for item in canvas.graph_scene.wires.values())
    assert len(canvas.graph_scene.items()) == 6 + 5


def test_a_click_on_a_port_does_nothing(canvas):
    at = port(canvas, "train.model", "input")
    press(canvas, at)
    release(canvas, at)
    assert canvas.document.undo_label is None
    assert canvas.document.graph == starter()


def test_loose_wire_offers_nodes_that_fit_and_connects_the_chosen(canvas):
    drag(canvas, port(canvas, "lora.model", "output"), FREE)
    popup = canvas.finder.popup
    assert popup.isVisible()
    assert popup.title.text() == "Connect Model with LoRA to"
    assert popup.shown() == ["train"]
    QTest.keyClick(popup.line, Qt.Key.Key_Return)
    assert not popup.isVisible()
    assert "lora.model > train2.model" in wires(canvas)
    assert canvas.selected_ids() == ("train2",)
    assert (port(canvas, "train2.model", "input") - FREE).manhattanLength() <= 12
    assert canvas.document.undo_label == "Add Train"
    canvas.document.undo()
    assert canvas.document.graph == starter()


def test_loose_wire_from_an_input_offers_sources(make_canvas):
    view = make_canvas(without("export.model"))
    drag(view, port(view, "export.model", "input"), FREE)
    assert set(view.finder.popup.shown()) == {
        *("adapter_mix", "base_model", "load_adapter", "merge", "resize", "train")
    }
    QTest.keyClicks(view.finder.popup.line, "base")
    QTest.keyClick(view.finder.popup.line, Qt.Key.Key_Return)
    assert "base_model.model > export.model" in wires(view)


@pytest.mark.parametrize(
    ("end", "side", "offered"),
    [
        (
            "train.model",
            "input",
            ["lora", "base_model", "merge", "load_adapter", "resize", "adapter_mix", "train"],
        ),
        ("lora.model", "input", ["base_model", "train", "merge"]),
        (
            "export.model",
            "input",
            ["merge", "resize", "adapter_mix", "train", "base_model", "load_adapter"],
        ),
        ("base.model", "output", ["lora", "load_adapter", "train", "evaluate", "export"]),
        (
            "train.adapter",
            "output",
            ["merge", "resize", "adapter_mix", "evaluate", "export", "train"],
        ),
    ],
)
def test_nodes_are_offered_in_the_order_of_the_data_flow(make_canvas, end, side, offered):
    """LoRA before the base model alone, which is full fine-tuning."""
    view = make_canvas(without(end) if side == "input" else starter())
    drag(view, port(view, end, side), FREE)
    assert view.finder.popup.shown() == offered


def test_the_loose_wire_is_visible_while_its_menu_is_open(canvas):
    start = port(canvas, "lora.model", "output")
    middle = (start + FREE) / 2

    def around() -> QImage:
        return canvas.viewport().grab(QRect(middle - QPoint(60, 60), QSize(120, 120))).toImage()

    plain = around()
    for last in (Qt.Key.Key_Escape, Qt.Key.Key_Return):
        drag(canvas, start, FREE)
        assert canvas.finder.popup.isVisible()
        drawn = around()
        assert drawn != plain
        QTest.keyClick(canvas.finder.popup.line, last)
        assert not any(isinstance(item, DraftWire) for item in canvas.graph_scene.items())
        if last == Qt.Key.Key_Escape:
            assert around() == plain
    assert "lora.model > train2.model" in wires(canvas)


def test_escape_closes_the_menu_without_a_node(canvas):
    drag(canvas, port(canvas, "lora.model", "output"), FREE)
    QTest.keyClick(canvas.finder.popup, Qt.Key.Key_Escape)
    assert not canvas.finder.popup.isVisible()
    assert canvas.document.graph == starter()


def _ends(graph, registry):
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        for side, ports in (("input", node_type.inputs), ("output", node_type.outputs)):
            yield from (End(node.id, side, p.name) for p in ports)


@pytest.mark.parametrize("fixed", list(_ends(starter(), load_registry())), ids=str)
def test_lit_ports_are_those_that_the_one_check_accepts(fixed):
    graph, registry = starter(), load_registry()
    graph = edits.add_node(graph, Node("eval", "evaluate"))
    graph = replace(graph, nodes=(*graph.nodes, Node("spare", "lora")))
    good = {end for ends in acceptable(graph, registry, fixed).values() for end in ends}
    for other in _ends(graph, registry):
        wire = wire_between(fixed, other)
        passes = wire is not None and check_wire(graph, registry, wire, replacing=True) is None
        assert passes == (other in good), other


def test_wires_of_a_missing_type_are_kept_and_drawn(make_canvas):
    graph = edits.add_node(starter(), Node("odd", "not_installed", position=(260.0, 330.0)))
    graph = edits.connect(graph, Wire("odd", "rows", "train", "dataset"))
    view = make_canvas(graph)
    item = view.graph_scene.nodes["odd"]
    assert item.content.missing
    assert [p.name for p in item.content.outputs] == ["rows"]
    assert Wire("odd", "rows", "train", "dataset") in view.graph_scene.wires
    assert view.grab().toImage().width() > 0
