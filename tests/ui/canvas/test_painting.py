"""What is drawn: run state, problems, the hint, marks; and how fast large graphs are shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

from benchmarks.canvas import chains
from studio.errors import Problem
from studio.graph.graph import Graph
from studio.runs.progress import Progress
from studio.runs.status import NODE_LOOKS, NodeView
from tests.timing import cpu_limit
from tests.ui.canvas.hands import port, starter
from ui.canvas import shapes, text
from ui.canvas.status import status_of
from ui.canvas.tips import node_tip, spoken, tip_at
from ui.style import theme


def node_state(state="running", **more):
    base = {
        "state": state,
        "title": "",
        "phase": "",
        "done": None,
        "total": None,
        "unit": "",
        "eta_s": None,
        "seconds": None,
        "last_loss": None,
        "message": "",
    }
    return SimpleNamespace(**{**base, **more})


def run(**nodes):
    return {name: NodeView(state.state, state) for name, state in nodes.items()}


TRAINING = {"phase": "train", "last_loss": 0.53}


def progress(fraction=0.45, node="train"):
    stages = ("load", "train", "save")
    return Progress(node, "Train", "Train 135/300", "Training", fraction, 83.0, False, stages, 1)


def picture(view, node_id) -> QImage:
    view.viewport().repaint()
    return view.viewport().grab(view.node_rect_in_view(node_id).adjusted(-6, -6, 6, 6)).toImage()


def test_running_node_says_phase_share_time_left_and_loss():
    status = status_of(node_state(**TRAINING), progress=progress())
    assert (status.left, status.right) == ("Train 135/300", "45 %")
    assert (status.detail, status.detail_right) == ("1 min 23 s left", "loss 0.530")
    assert status.fraction == pytest.approx(0.45)


def test_states_in_words():
    assert status_of(node_state("done", seconds=75)).left == "Done · 1 min 15 s"
    assert status_of(node_state("failed", message="Disk full.")).detail == "Disk full."
    assert status_of(node_state("running", done=3, total=0)).fraction is None
    assert status_of(node_state("running", last_loss=float("nan"))).detail_right == ""
    assert status_of(node_state("something new")) is None
    assert status_of(SimpleNamespace(state="running")).left == "Running"
    assert status_of(SimpleNamespace(state="waiting")).left == "Waiting"
    assert status_of(SimpleNamespace(state="waiting"), "not_run").left == "Not run"
    assert status_of(None) is None


def test_every_state_has_glyph_colour_and_words():
    for state, look in NODE_LOOKS.items():
        assert status_of(node_state(state)).left
        assert getattr(theme.colors(), look.role)
    assert len({look.icon for look in NODE_LOOKS.values()}) == len(NODE_LOOKS)


@pytest.mark.parametrize("state", list(NODE_LOOKS))
def test_run_state_changes_the_picture(canvas, state):
    before = picture(canvas, "train")
    height = canvas.node_rect_in_view("train").height()
    canvas.set_run_state(run(train=node_state(state)))
    assert canvas.node_rect_in_view("train").height() > height
    assert picture(canvas, "train") != before
    canvas.set_run_state(None)
    assert picture(canvas, "train") == before


def test_progress_moves_the_bar(canvas):
    canvas.set_run_state(run(train=node_state()), progress(0.0))
    accent = theme.colors().accent.rgb()

    def bar_px() -> int:
        image = picture(canvas, "train")
        y = image.height() - 6 - 7
        return sum(image.pixel(x, y) == accent for x in range(image.width()))

    widths = []
    for share in (0.1, 0.5, 1.0):
        canvas.set_run_state(run(train=node_state()), progress(share))
        widths.append(bar_px())
    assert widths[0] < widths[1] < widths[2]


def test_only_nodes_whose_state_changed_are_touched(canvas):
    canvas.set_run_state(run(train=node_state(), data=node_state("done")), progress(0.1))
    kept = canvas.graph_scene.nodes["data"].status
    canvas.set_run_state(run(train=node_state(), data=node_state("done")), progress(0.2))
    assert canvas.graph_scene.nodes["data"].status is kept
    assert canvas.graph_scene.nodes["train"].status.fraction == 0.2


def test_run_of_a_graph_that_was_changed_since(canvas):
    canvas.set_run_state(run(gone=node_state("done"), train=node_state("done")))
    added = canvas.add_node("merge")
    assert canvas.graph_scene.nodes[added].status is None


def test_problems_badge_and_tooltip(canvas):
    before = picture(canvas, "data")
    errors = [Problem("Dataset: no file.", "data", "source", "Choose one."), Problem("Whole graph")]
    canvas.set_problems(errors)
    item = canvas.graph_scene.nodes["data"]
    assert len(item.problems) == 1
    with_error = picture(canvas, "data")
    assert with_error != before
    tip = tip_at(canvas.graph_scene, item.pos() + QPointF(200, 18))
    assert tip == "Dataset: no file.\nChoose one."
    assert "Dataset: no file." in node_tip(item, item.pos() + QPointF(20, 18))
    canvas.set_problems([Problem("Dataset: few rows.", "data", severity="warning")])
    assert picture(canvas, "data") not in (before, with_error)
    canvas.set_problems([])
    assert picture(canvas, "data") == before


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (node_state("skipped"), ["Reused", "settings and inputs are those of an earlier run"]),
        (node_state("running", phase="verify"), ["Verify", "is loaded again and compared"]),
    ],
)
def test_words_of_the_state_are_explained_in_the_tooltip(canvas, state, words):
    item = canvas.graph_scene.nodes["train"]
    canvas.set_run_state(run(train=state))
    tip = tip_at(canvas.graph_scene, item.pos() + QPointF(60, 18))
    assert all(word in tip for word in words)
    assert words[1] not in spoken(item)


def test_tooltips_of_ports_and_wires(canvas):
    scene = canvas.graph_scene
    port = scene.nodes["merge"].port_point("input", "adapter")
    assert tip_at(scene, port) == "Adapter\nAccepts: Adapter"
    wire = next(i for w, i in scene.wires.items() if w.source == "data")
    assert tip_at(scene, wire.path.pointAtPercent(0.5)) == "Dataset: Dataset → Train"
    assert tip_at(scene, QPointF(5000, 5000)) == ""


def test_spoken_line_holds_title_state_and_problems(canvas):
    canvas.set_problems([Problem("Train: too hot.", "train")])
    canvas.set_run_state(run(train=node_state(**TRAINING)), progress())
    line = spoken(canvas.graph_scene.nodes["train"])
    assert line.startswith("Train, 1 epoch")
    assert "45 %" in line
    assert "1 problem: Train: too hot." in line
    canvas.select(("train",))
    assert canvas.accessibleDescription().endswith("4 of 6")
    canvas.select(())
    assert canvas.accessibleDescription().startswith("Nothing selected. 6 nodes: Dataset, ")


def test_empty_canvas_shows_a_hint_until_there_is_a_node(make_canvas):
    view = make_canvas(Graph())
    middle = view.viewport().rect().center()
    around = view.viewport().grab().toImage()
    assert around.pixelColor(middle + QPoint(-220, 0)) == theme.colors().surface
    view.add_node("lora")
    after = view.viewport().grab().toImage()
    assert after.pixelColor(middle + QPoint(-220, 0)) == theme.colors().background


def test_selection_and_hover_are_visible(canvas):
    plain = picture(canvas, "train")
    canvas.select(("train",))
    assert picture(canvas, "train") != plain
    canvas.select(())
    canvas.hover(QPointF(port(canvas, "train.model", "input")))
    assert picture(canvas, "train") != plain
    canvas.hover(None)
    assert picture(canvas, "train") == plain


def test_light_and_dark_differ_and_switch_at_once(canvas, qapp):
    dark = picture(canvas, "train")
    theme.apply(qapp, "light")
    light = picture(canvas, "train")
    theme.apply(qapp, "dark")
    assert light != dark
    assert picture(canvas, "train") == dark


def test_port_types_differ_in_shape():
    paths = [shapes.port_path(type_id) for type_id in shapes.SHAPES]
    assert len(set(shapes.SHAPES.values())) == len(paths)
    assert all(a != b for i, a in enumerate(paths) for b in paths[i + 1 :])
    assert shapes.shape_of("foreign") == shapes.UNKNOWN_SHAPE


def test_text_grows_as_the_view_shrinks(canvas):
    sizes = []
    for scale in (1.0, 0.75, 0.55):
        canvas.zoom_to(scale)
        canvas.viewport().repaint()
        sizes.append(text.size(text.LABEL, canvas.graph_scene.nodes["train"].grown))
    assert sizes == sorted(set(sizes))
    assert sizes[0] == text.LABEL


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.5, 0.34, 0.28])
def test_titles_are_readable_at_every_scale_of_a_fitted_graph(canvas, monkeypatch, scale):
    """About eleven pixels on the screen; less where words or a note need the room."""
    canvas.zoom_to(scale)
    on_screen = {}
    for name in ("draw", "draw_wrapped"):
        real = getattr(text, name)

        def noted(painter, item, words, rect, *more, real=real):
            real(painter, item, words, rect, *more)
            if words == item.content.title:
                on_screen[words] = painter.font().pixelSize() * scale

        monkeypatch.setattr(text, name, noted)
    canvas.grab()
    assert {on_screen[title] >= 10.9 for title in ("LoRA", "Merge", "Export")} == {True}, on_screen
    assert min(on_screen.values()) >= 8, on_screen


def test_five_hundred_nodes_are_added_fast(make_canvas):
    view = make_canvas(Graph())
    graph = chains(500)
    with cpu_limit(0.25):  # it takes 0.03 s
        view.document.replace(graph, None)
    assert len(view.graph_scene.nodes) == 500


def test_no_items_or_widgets_are_left(make_canvas, qapp):
    view = make_canvas(starter())
    widgets = len(QApplication.allWidgets())
    for _ in range(5):
        view.commands.select_all()
        view.commands.duplicate()
        view.commands.delete()
        view.document.undo()
        view.document.undo()
        view.set_run_state(run(train=node_state(**TRAINING)), progress())
        view.viewport().repaint()
    assert len(view.graph_scene.items()) == 6 + 5
    assert len(QApplication.allWidgets()) == widgets
