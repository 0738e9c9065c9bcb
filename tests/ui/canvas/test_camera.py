"""Zoom, pan and fit in numbers."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt

from studio.graph.graph import Graph
from tests.ui.canvas.hands import (
    CTRL,
    MIDDLE,
    SHIFT,
    drag,
    drag_to,
    key,
    key_down,
    key_up,
    release,
    starter,
    wheel,
)
from ui.canvas.camera import MAX_SCALE, MIN_SCALE

AT = QPoint(400, 250)


def test_wheel_zooms_at_the_cursor(canvas):
    below = canvas.camera.to_scene(QPointF(AT))
    for turn, grows in ((120, True), (120, True), (-120, False)):
        before = canvas.camera.scale
        wheel(canvas, AT, turn)
        assert (canvas.camera.scale > before) is grows
        gap = canvas.camera.to_scene(QPointF(AT)) - below
        assert gap.manhattanLength() * canvas.camera.scale <= 2.0


def test_zoom_has_limits(canvas):
    for _ in range(60):
        wheel(canvas, AT, 240)
    assert canvas.camera.scale == MAX_SCALE
    for _ in range(120):
        wheel(canvas, AT, -240)
    assert canvas.camera.scale == pytest.approx(MIN_SCALE)


def test_zoom_keys(canvas):
    key(canvas, Qt.Key.Key_Plus, modifiers=CTRL)
    assert canvas.camera.scale == pytest.approx(1.2)
    key(canvas, Qt.Key.Key_Minus, modifiers=CTRL)
    key(canvas, Qt.Key.Key_Minus, modifiers=CTRL)
    assert canvas.camera.scale == pytest.approx(1 / 1.2)
    key(canvas, Qt.Key.Key_0, modifiers=CTRL)
    assert canvas.camera.scale == 1.0


def test_middle_drag_pans_and_shift_wheel_too(canvas):
    before = canvas.node_rect_in_view("train").topLeft()
    drag(canvas, AT, AT + QPoint(75, -40), MIDDLE)
    assert canvas.node_rect_in_view("train").topLeft() - before == QPoint(75, -40)
    assert canvas.document.undo_label is None
    wheel(canvas, AT, -120, SHIFT)
    assert canvas.node_rect_in_view("train").topLeft().x() - before.x() == 75 - 60
    assert canvas.camera.scale == 1.0


def test_space_drag_pans_even_from_a_node(canvas):
    before = canvas.node_rect_in_view("train").topLeft()
    key_down(canvas, Qt.Key.Key_Space)
    assert canvas.viewport().cursor().shape() == Qt.CursorShape.OpenHandCursor
    start = canvas.node_rect_in_view("train").center()
    drag(canvas, start, start + QPoint(30, 20))
    key_up(canvas, Qt.Key.Key_Space)
    assert canvas.node_rect_in_view("train").topLeft() - before == QPoint(30, 20)
    assert canvas.viewport().cursor().shape() == Qt.CursorShape.ArrowCursor
    assert canvas.document.graph == starter()


def test_escape_puts_a_pan_back(canvas):
    before = canvas.node_rect_in_view("train")
    drag_to(canvas, AT, AT + QPoint(90, 90), MIDDLE)
    key(canvas, Qt.Key.Key_Escape)
    release(canvas, AT, MIDDLE)
    assert canvas.node_rect_in_view("train") == before


@pytest.mark.parametrize(("one", "modifiers"), [(Qt.Key.Key_Home, None), (Qt.Key.Key_1, SHIFT)])
def test_fit_all_shows_every_node_and_not_larger_than_life(make_canvas, one, modifiers):
    view = make_canvas(starter(), 800, 500)
    view.centerOn(5000, 5000)
    key(view, one, modifiers=modifiers or Qt.KeyboardModifier.NoModifier)
    shown = view.viewport().rect()
    assert all(shown.contains(view.node_rect_in_view(i)) for i in view.graph_scene.nodes)
    assert view.camera.scale < 1.0
    view.resize(3000, 2000)
    view.fit_all()
    assert view.camera.scale == 1.0


def test_frame_the_selection(canvas):
    canvas.select(("export",))
    key(canvas, Qt.Key.Key_F)
    card = canvas.node_rect_in_view("export")
    assert (card.center() - canvas.viewport().rect().center()).manhattanLength() <= 3
    assert canvas.camera.scale == 1.5


def test_fit_of_nothing_is_harmless(make_canvas):
    view = make_canvas(Graph())
    view.camera.zoom_to(0.2)
    view.fit_all()
    assert view.camera.scale == 1.0


@pytest.mark.parametrize(
    ("ratio", "details"),
    [
        (1.0, {1.0: "full", 0.4: "titles", 0.15: "plain"}),
        (2.0, {0.4: "full", 0.2: "titles", 0.08: "plain"}),
    ],
)
def test_detail_falls_with_the_device_pixels(canvas, monkeypatch, ratio, details):
    monkeypatch.setattr(type(canvas), "devicePixelRatioF", lambda _: ratio)
    for scale, detail in details.items():
        canvas.zoom_to(scale)
        canvas.viewport().repaint()
        assert canvas.graph_scene.detail == detail


@pytest.mark.parametrize(("width", "height"), [(500, 416), (300, 260), (1900, 1000)])
def test_the_margin_of_a_fit_is_a_share_of_the_view(make_canvas, width, height):
    """A fixed one takes a fifth of a small view's width from the nodes."""
    view = make_canvas(starter(), width, height)
    view.fit_all()
    shown = view.viewport().rect()
    cards = [view.node_rect_in_view(i) for i in view.graph_scene.nodes]
    gap = min(min(c.left() for c in cards), shown.right() - max(c.right() for c in cards))
    assert 0 <= gap <= max(48, 0.08 * shown.width()) or view.camera.scale == 1.0
    if width < 600:
        assert gap <= 0.08 * shown.width() + 8


def test_what_is_shown_whole_stays_whole_when_the_window_shrinks(canvas):
    def outside():
        seen = (
            canvas.camera.to_scene(QPoint(0, 0)),
            canvas.camera.to_scene(canvas.viewport().rect().bottomRight()),
        )
        rect = canvas.graph_scene.content_rect()
        return rect.left() < seen[0].x() or rect.right() > seen[1].x()

    canvas.fit_all()
    canvas.resize(canvas.width() // 2, canvas.height() // 2)
    assert not outside()
    wheel(canvas, AT, 240)
    scale = canvas.camera.scale
    canvas.resize(canvas.width() + 50, canvas.height())
    assert canvas.camera.scale == scale
