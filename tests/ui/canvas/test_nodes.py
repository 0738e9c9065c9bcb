"""Adding, selecting, moving, deleting and renaming nodes, with the mouse and by keyboard."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from studio.graph import edits
from tests.ui.canvas.hands import (
    ALT,
    CTRL,
    SHIFT,
    click,
    double_click,
    drag,
    drag_to,
    header,
    key,
    release,
    starter,
)

K = Qt.Key


def position(view, node_id):
    return view.document.graph.node(node_id).position


def test_shows_every_node_and_wire(canvas):
    assert set(canvas.graph_scene.nodes) == set(starter().ids())
    assert set(canvas.graph_scene.wires) == set(starter().wires)


def test_drag_moves_on_the_grid_as_one_undo_step(canvas):
    start = header(canvas, "train")
    drag(canvas, start, start + QPoint(33, 47))
    assert position(canvas, "train") == (550.0, 130.0)
    assert canvas.document.undo_label == "Move Train"
    assert canvas.actions()["undo"].text() == "Undo Move Train"
    key(canvas, K.Key_Z, modifiers=CTRL)
    assert canvas.document.graph == starter()
    assert canvas.document.undo_label is None
    assert canvas.actions()["redo"].text() == "Redo Move Train"
    key(canvas, K.Key_Z, modifiers=CTRL | SHIFT)
    assert position(canvas, "train") == (550.0, 130.0)


def test_drag_moves_the_whole_selection(canvas):
    canvas.select(("train", "merge"))
    start = header(canvas, "merge")
    drag(canvas, start, start + QPoint(0, 100))
    assert position(canvas, "train") == (520.0, 180.0)
    assert position(canvas, "merge") == (780.0, 180.0)
    assert canvas.document.undo_label == "Move 2 nodes"


def test_escape_cancels_a_drag(canvas):
    start = header(canvas, "train")
    drag_to(canvas, start, start + QPoint(80, 80))
    assert canvas.node_rect_in_view("train").topLeft() != QPoint()
    key(canvas, K.Key_Escape)
    release(canvas, start + QPoint(80, 80))
    assert canvas.document.undo_label is None
    assert canvas.graph_scene.nodes["train"].pos().x() == 520


def test_wires_follow_while_dragging(canvas):
    wire = next(w for w in canvas.graph_scene.wires if w.target == "train")
    before = canvas.graph_scene.wires[wire].boundingRect()
    start = header(canvas, "train")
    drag_to(canvas, start, start + QPoint(50, 90))
    assert canvas.graph_scene.wires[wire].boundingRect() != before
    key(canvas, K.Key_Escape)
    assert canvas.graph_scene.wires[wire].boundingRect() == before


def test_click_selects_shift_and_ctrl_toggle(canvas):
    seen = []
    canvas.selection_changed.connect(seen.append)
    click(canvas, header(canvas, "train"))
    click(canvas, header(canvas, "merge"), SHIFT)
    assert canvas.selected_ids() == ("train", "merge")
    click(canvas, header(canvas, "train"), CTRL)
    assert canvas.selected_ids() == ("merge",)
    click(canvas, QPoint(700, 600))
    assert canvas.selected_ids() == ()
    assert seen == [("train",), ("train", "merge"), ("merge",), ()]


def test_box_select_on_empty_drag(canvas):
    corner = canvas.node_rect_in_view("data").topLeft() - QPoint(40, 40)
    end = canvas.node_rect_in_view("lora").center()
    drag(canvas, corner, end)
    assert set(canvas.selected_ids()) == {"data", "base", "lora"}
    assert len(canvas.graph_scene.items()) == 6 + 5
    box = canvas.node_rect_in_view("merge")
    drag(canvas, box.topLeft() - QPoint(12, 30), box.topLeft() + QPoint(40, 20), modifiers=SHIFT)
    assert set(canvas.selected_ids()) == {"data", "base", "lora", "merge"}


def test_select_all_and_escape(canvas):
    key(canvas, K.Key_A, modifiers=CTRL)
    assert len(canvas.selected_ids()) == 6
    key(canvas, K.Key_Escape)
    assert canvas.selected_ids() == ()


def test_arrows_nudge_and_a_row_of_them_is_one_step(canvas):
    canvas.select(("train",))
    key(canvas, K.Key_Right, K.Key_Right, K.Key_Down)
    assert position(canvas, "train") == (540.0, 90.0)
    key(canvas, K.Key_Left, modifiers=SHIFT)
    assert position(canvas, "train") == (440.0, 90.0)
    canvas.document.undo()
    assert canvas.document.graph == starter()


def test_delete_and_backspace_take_wires_along_and_undo_brings_them_back(canvas):
    for one in (K.Key_Delete, K.Key_Backspace):
        click(canvas, header(canvas, "train"))
        key(canvas, one)
        assert not canvas.document.graph.has("train")
        assert len(canvas.graph_scene.wires) == 2
        assert canvas.selected_ids() == ()
        key(canvas, K.Key_Z, modifiers=CTRL)
        assert canvas.document.graph == starter()
        assert len(canvas.graph_scene.wires) == 5


def test_click_on_a_wire_selects_it_and_delete_removes_it(canvas):
    wire = next(w for w in canvas.graph_scene.wires if w.source == "data")
    middle = canvas.graph_scene.wires[wire].path.pointAtPercent(0.5)
    click(canvas, canvas.viewportTransform().map(middle).toPoint())
    assert canvas.selected_wires() == (wire,)
    key(canvas, K.Key_Delete)
    assert wire not in canvas.document.graph.wires
    assert canvas.document.undo_label == "Delete wire"


def test_double_click_activates_a_node(canvas, qtbot):
    with qtbot.waitSignal(canvas.node_activated) as found:
        double_click(canvas, header(canvas, "lora"))
    assert found.args == ["lora"]


def test_enter_activates_the_current_node(canvas, qtbot):
    canvas.select(("merge",))
    with qtbot.waitSignal(canvas.node_activated) as found:
        key(canvas, K.Key_Return)
    assert found.args == ["merge"]


def test_keyboard_walks_the_nodes(canvas):
    key(canvas, K.Key_Tab, modifiers=CTRL)
    assert canvas.selected_ids() == ("data",)
    key(canvas, K.Key_Tab, modifiers=CTRL)
    assert canvas.selected_ids() == ("base",)
    key(canvas, K.Key_Backtab, modifiers=CTRL | SHIFT)
    assert canvas.selected_ids() == ("data",)
    key(canvas, K.Key_Down, modifiers=ALT)
    assert canvas.selected_ids() == ("base",)
    key(canvas, K.Key_Right, K.Key_Right, modifiers=ALT)
    assert canvas.selected_ids() == ("train",)
    assert canvas.accessibleDescription().startswith("Train")


def test_walking_scrolls_to_a_node_out_of_sight(make_canvas):
    view = make_canvas(starter(), 500, 300)
    view.select(("merge",))
    view.centerOn(100, 100)
    key(view, Qt.Key.Key_Right, modifiers=ALT)
    assert view.selected_ids() == ("export",)
    assert view.viewport().rect().contains(view.node_rect_in_view("export"))


def test_rename_in_place(canvas):
    canvas.select(("train",))
    key(canvas, K.Key_F2)
    line = canvas.titles.line
    assert line.isVisible()
    line.selectAll()
    QTest.keyClicks(line, "First try")
    QTest.keyClick(line, K.Key_Return)
    assert not line.isVisible()
    assert canvas.document.graph.node("train").title == "First try"
    assert canvas.graph_scene.nodes["train"].content.title == "First try"
    assert canvas.document.undo_label == "Rename Train"
    key(canvas, K.Key_F2)
    QTest.keyClicks(line, "no")
    QTest.keyClick(line, K.Key_Escape)
    assert canvas.document.graph.node("train").title == "First try"


def test_typing_in_the_title_leaves_the_graph_alone(canvas):
    canvas.select(("train",))
    key(canvas, K.Key_F2)
    QTest.keyClick(canvas.titles.line, K.Key_Backspace)
    QTest.keyClick(canvas.titles.line, K.Key_F)
    QTest.keyClick(canvas.titles.line, K.Key_Escape)
    assert canvas.document.graph == starter()


def test_items_are_kept_when_something_moves(canvas):
    kept = dict(canvas.graph_scene.nodes)
    lines = dict(canvas.graph_scene.wires)
    graph = canvas.document.graph
    canvas.document.edit(edits.set_setting(graph, "lora", "r", 64), "Change r")
    canvas.document.edit(edits.move(canvas.document.graph, {"data": (50.0, 50.0)}), "Move")
    assert dict(canvas.graph_scene.nodes) == kept
    assert dict(canvas.graph_scene.wires) == lines
    assert "r 64" in kept["lora"].content.summary
    assert kept["data"].pos().x() == 50


def test_a_change_from_elsewhere_ends_a_drag_and_keeps_the_rest_selected(canvas):
    canvas.select(("train", "merge"))
    start = header(canvas, "train")
    drag_to(canvas, start, start + QPoint(60, 60))
    canvas.document.edit(edits.remove(canvas.document.graph, ("merge",)), "Delete")
    release(canvas, start + QPoint(60, 60))
    assert canvas.selected_ids() == ("train",)
    assert position(canvas, "train") == (520.0, 80.0)
