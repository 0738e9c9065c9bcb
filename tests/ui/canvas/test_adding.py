"""Adding nodes: search palette, node list, drops; and what is on the clipboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from studio.data.reading import walk as _walk
from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import load_registry
from tests.ui.canvas.hands import (
    CTRL,
    double_click,
    drop,
    header,
    key,
    move,
    right_click,
    starter,
    wires,
)
from ui.canvas import palette
from ui.canvas.fuzzy import ranked, score
from ui.canvas.palette import NodePalette

K = Qt.Key
FREE = QPoint(700, 620)


def types(view):
    return [n.type for n in view.document.graph.nodes]


def test_tab_opens_the_search_at_the_cursor_and_enter_adds(canvas):
    move(canvas, FREE)
    key(canvas, K.Key_Tab)
    popup = canvas.finder.popup
    assert popup.isVisible()
    assert (popup.pos() - canvas.viewport().mapToGlobal(FREE)).manhattanLength() < 700
    assert len(popup.shown()) == len(load_registry().nodes)
    QTest.keyClicks(popup.line, "mrg")
    assert popup.shown()[0] == "merge"
    QTest.keyClick(popup.line, K.Key_Return)
    assert canvas.selected_ids() == ("merge2",)
    assert canvas.document.undo_label == "Add Merge"
    assert canvas.node_rect_in_view("merge2").contains(FREE)
    assert canvas.document.graph.node("merge2").position[0] % 10 == 0


def test_search_is_driven_by_arrows_and_closed_by_escape(canvas):
    double_click(canvas, FREE)
    popup = canvas.finder.popup
    second = popup.shown()[1]
    QTest.keyClick(popup.line, K.Key_Down)
    QTest.keyClick(popup.line, K.Key_Return)
    assert types(canvas)[-1] == second
    right_click(canvas, FREE + QPoint(0, -500))
    assert popup.isVisible()
    QTest.keyClicks(popup.line, "zzzz")
    assert popup.shown() == [None]
    QTest.keyClick(popup.line, K.Key_Return)
    QTest.keyClick(popup, K.Key_Escape)
    assert not popup.isVisible()
    assert len(types(canvas)) == 7


def test_right_click_on_a_node_selects_it_and_offers_actions(canvas, qtbot):
    right_click(canvas, header(canvas, "lora"))
    assert canvas.selected_ids() == ("lora",)
    menu = QApplication.activePopupWidget()
    assert menu is not None
    texts = [a.text() for a in menu.actions() if a.text()]
    assert "Delete" in texts
    assert "Duplicate" in texts
    menu.close()
    assert not canvas.finder.popup.isVisible()


def test_fuzzy_search_prefers_starts_of_words():
    assert score("ds", "Dataset") is not None
    assert score("xq", "Dataset") is None
    names = ["Merge", "Export", "Base model", "Evaluate"]
    assert ranked("e", names, lambda n: (n, ""))[0] in ("Export", "Evaluate")
    assert ranked("bm", names, lambda n: (n, "")) == ["Base model"]


def test_add_node_goes_to_the_middle_and_never_on_top_of_another(canvas):
    first = canvas.add_node("merge")
    second = canvas.add_node("merge")
    assert canvas.document.graph.node(first).position != canvas.document.graph.node(second).position
    middle = canvas.viewport().rect().center()
    assert canvas.node_rect_in_view(first).adjusted(-10, -10, 10, 10).contains(middle)
    placed = canvas.add_node("lora", QPointF(303, 417))
    assert canvas.document.graph.node(placed).position == (300.0, 420.0)


@pytest.fixture
def node_list(qtbot):
    """The list of node types."""
    widget = NodePalette(load_registry())
    qtbot.addWidget(widget)
    widget.resize(220, 500)
    with qtbot.waitExposed(widget):
        widget.show()
    return widget


def test_node_list_is_grouped_filtered_and_taken_with_enter(node_list, qtbot):
    groups = [
        node_list.tree.topLevelItem(k).text(0) for k in range(node_list.tree.topLevelItemCount())
    ]
    assert groups[:3] == ["Data", "Model", "Training"]
    row = node_list._rows()[0]
    assert row.toolTip(0)
    assert not row.icon(0).isNull()
    with qtbot.waitSignal(node_list.node_chosen) as chosen:
        node_list.select("lora")
        QTest.keyClick(node_list.tree, K.Key_Return)
    assert chosen.args == ["lora"]
    with qtbot.waitSignal(node_list.node_chosen) as chosen:
        QTest.keyClicks(node_list.line, "exp")
        QTest.keyClick(node_list.line, K.Key_Return)
    assert chosen.args == ["export"]


def test_node_list_double_click(node_list, qtbot):
    place = node_list.tree.visualItemRect(node_list._rows()[1]).center()
    QTest.mouseClick(node_list.tree.viewport(), Qt.MouseButton.LeftButton, pos=place)
    with qtbot.waitSignal(node_list.node_chosen) as chosen:
        QTest.mouseDClick(node_list.tree.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert chosen.args == ["mix"]


def test_dragging_from_the_list_adds_where_it_is_dropped(canvas, node_list):
    rows = [r for r in node_list._rows() if r.text(0) == "Evaluate"]
    assert drop(canvas, node_list.tree.mimeData(rows), FREE)
    assert types(canvas)[-1] == "evaluate"
    assert canvas.node_rect_in_view("evaluate").contains(FREE)
    unknown = QMimeData()
    unknown.setData(palette.MIME, b"not_a_type")
    assert not drop(canvas, unknown, FREE)


def files(*paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(p)) for p in paths])
    return data


@pytest.mark.parametrize(
    "name",
    [
        "rows.jsonl",
        "rows.ndjson",
        "rows.json",
        "ROWS.CSV",
        "rows.tsv",
        "rows.parquet",
        "rows.arrow",
        "notes.txt",
        "notes.md",
        "rows.jsonl.gz",
        "rows.csv.gz",
    ],
)
def test_dropped_data_file_becomes_a_dataset(make_canvas, tmp_path, name):
    path = tmp_path / "sub" / name
    path.parent.mkdir()
    path.write_text("{}", encoding="utf-8")
    view = make_canvas(Graph())
    assert drop(view, files(path), QPoint(500, 300))
    (node,) = view.document.graph.nodes
    assert node.type == "dataset"
    assert node.settings == {"source": str(path)}
    assert view.selected_ids() == (node.id,)
    assert name in view.graph_scene.nodes[node.id].content.summary


def test_dropped_file_in_the_projects_folder_is_relative(make_canvas, tmp_path):
    view = make_canvas(Graph())
    view.document.replace(Graph(), tmp_path / "mine.studio")
    (tmp_path / "rows.jsonl").write_text("{}", encoding="utf-8")
    drop(view, files(tmp_path / "rows.jsonl"), QPoint(500, 300))
    assert view.document.graph.nodes[0].settings == {"source": "rows.jsonl"}


def test_several_files_and_a_folder_become_one_dataset_each(make_canvas, tmp_path, qtbot):
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}", encoding="utf-8")
    (folder / "b.jsonl").write_text("{}", encoding="utf-8")
    view = make_canvas(Graph())
    view.document.replace(Graph(), tmp_path / "mine.studio")
    with qtbot.waitSignal(view.data_dropped) as dropped:
        drop(view, files(folder / "a.jsonl", folder / "b.jsonl"), QPoint(500, 200))
    (node,) = view.document.graph.nodes
    assert node.settings == {"source": "chats/a.jsonl; chats/b.jsonl"}
    assert dropped.args == [node.id]
    drop(view, files(folder), QPoint(500, 500))
    assert view.document.graph.nodes[1].settings == {"source": "chats"}
    empty = tmp_path / "empty"
    empty.mkdir()
    with qtbot.waitSignal(view.files_dropped) as found:
        drop(view, files(empty), QPoint(700, 200))
    assert found.args == [[str(empty)]]


def test_a_folder_too_large_to_look_through_is_not_looked_through(
    make_canvas, tmp_path, qtbot, monkeypatch
):
    """Somebody who drops a whole disk must not wait for it."""
    monkeypatch.setattr(_walk, "MOST_NAMES", 3)
    for name in ("a/b", "c/d", "e"):
        (tmp_path / "disk" / name).mkdir(parents=True)
    (tmp_path / "disk" / "rows.jsonl").write_text("{}", encoding="utf-8")
    view = make_canvas(Graph())
    with qtbot.waitSignal(view.files_dropped) as found:
        drop(view, files(tmp_path / "disk"), QPoint(500, 200))
    assert found.args == [[str(tmp_path / "disk")]]
    assert view.document.graph.nodes == ()


def test_files_on_a_dataset_node_take_the_place_of_its_own(make_canvas, tmp_path):
    view = make_canvas(Graph())
    view.document.replace(Graph(), tmp_path / "mine.studio")
    for name in ("old.jsonl", "new.csv"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    drop(view, files(tmp_path / "old.jsonl"), QPoint(500, 300))
    (node,) = view.document.graph.nodes
    drop(view, files(tmp_path / "new.csv"), view.node_rect_in_view(node.id).center())
    (node,) = view.document.graph.nodes
    assert node.settings == {"source": "new.csv"}
    assert view.document.undo_label == "Replace file"
    view.document.undo()
    assert view.document.graph.nodes[0].settings == {"source": "old.jsonl"}


def test_dropped_models_become_base_models_and_the_rest_is_handed_on(make_canvas, tmp_path, qtbot):
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.gguf").write_text("", encoding="utf-8")
    project = tmp_path / "other.studio"
    project.write_text("{}", encoding="utf-8")
    view = make_canvas(Graph())
    view.document.replace(Graph(), tmp_path / "mine.studio")
    with qtbot.waitSignal(view.files_dropped) as found:
        drop(view, files(folder, tmp_path / "a.gguf", project), QPoint(500, 200))
    assert found.args == [[str(project)]]
    models = [n.settings["model"] for n in view.document.graph.nodes]
    assert models == ["./models/tiny", "./a.gguf"]
    assert {n.type for n in view.document.graph.nodes} == {"base_model"}
    rects = [view.node_rect_in_view(n.id) for n in view.document.graph.nodes]
    assert not rects[0].intersects(rects[1])


def test_dropped_weights_stand_for_their_folder(make_canvas, tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_text("", encoding="utf-8")
    view = make_canvas(Graph())
    drop(view, files(tmp_path / "model.safetensors"), QPoint(500, 200))
    assert view.document.graph.nodes[0].settings == {"model": str(tmp_path)}


def test_copy_and_paste_at_the_cursor_keeps_inner_wires(canvas):
    canvas.select(("lora", "train"))
    key(canvas, K.Key_C, modifiers=CTRL)
    text = QApplication.clipboard().text()
    assert json.loads(text)["format"] == "lora-studio"
    move(canvas, FREE)
    key(canvas, K.Key_V, modifiers=CTRL)
    assert canvas.selected_ids() == ("lora2", "train2")
    assert "lora2.model > train2.model" in wires(canvas)
    assert not any(w.endswith("> lora2.model") for w in wires(canvas))
    left = min(canvas.node_rect_in_view(i).left() for i in canvas.selected_ids())
    top = min(canvas.node_rect_in_view(i).top() for i in canvas.selected_ids())
    assert (QPoint(left, top) - FREE).manhattanLength() <= 12
    assert canvas.document.undo_label == "Paste 2 nodes"
    canvas.document.undo()
    assert canvas.document.graph == starter()


def test_pasting_twice_does_not_hide_the_first(canvas):
    canvas.select(("merge",))
    key(canvas, K.Key_C, modifiers=CTRL)
    move(canvas, FREE)
    key(canvas, K.Key_V, modifiers=CTRL)
    key(canvas, K.Key_V, modifiers=CTRL)
    spots = {n.position for n in canvas.document.graph.nodes}
    assert len(spots) == 8


def test_cut_and_paste_into_another_document(canvas, make_canvas):
    canvas.select(("data",))
    key(canvas, K.Key_X, modifiers=CTRL)
    assert not canvas.document.graph.has("data")
    other = make_canvas(Graph())
    key(other, K.Key_V, modifiers=CTRL)
    assert other.document.graph.node("data").settings == {"source": "s.jsonl"}


def test_pasting_something_else_says_so(canvas):
    QApplication.clipboard().setText("hello")
    key(canvas, K.Key_V, modifiers=CTRL)
    QApplication.clipboard().setText('{"format": "lora-studio", "version": 99}')
    key(canvas, K.Key_V, modifiers=CTRL)
    assert canvas.said == ["The clipboard contains no nodes."] * 2
    assert canvas.document.graph == starter()


def test_duplicate_keeps_inner_wires_and_leaves_the_clipboard(canvas):
    QApplication.clipboard().setText("mine")
    canvas.select(("lora", "train"))
    key(canvas, K.Key_D, modifiers=CTRL)
    assert "lora2.model > train2.model" in wires(canvas)
    assert canvas.document.graph.node("lora2").position == (300.0, 200.0)
    assert canvas.selected_ids() == ("lora2", "train2")
    assert QApplication.clipboard().text() == "mine"


def test_view_dies_before_its_document(qtbot, qapp):
    from PySide6.QtCore import QCoreApplication, QEvent

    from ui.canvas.view import CanvasView

    document = Document(starter())
    view = CanvasView(document, load_registry())
    view.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    document.edit(Graph(), "Clear")
    assert document._listeners == []
