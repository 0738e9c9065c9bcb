"""Painted nodes, wires and ports: their colours are where they belong, and their texts within their places."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication

from studio.errors import Problem
from studio.graph.edits import retitle
from studio.runs.status import NODE_LOOKS
from tests.ui.canvas.test_painting import TRAINING, node_state, progress, run
from ui.canvas import layout, node_paint, text
from ui.canvas.node_paint import badge_rect
from ui.canvas.view import CanvasView
from ui.style import theme

SCHEMES = ("light", "dark")
NEAR = 40  # the sum of the differences of red, green and blue
NOTE = "~1.7 of 15 GiB · ~2 min"


@pytest.fixture(params=SCHEMES)
def view(request: pytest.FixtureRequest, canvas: CanvasView, qapp: QApplication) -> CanvasView:
    """The starter graph at 100 %, in both schemes."""
    theme.apply(qapp, request.param)
    canvas.select(())
    return canvas


def seen(view: CanvasView, node: str, place: QRectF) -> QImage:
    """The pixels of a place on a node, from the corner of its card."""
    item = view.graph_scene.nodes[node]
    view.viewport().repaint()
    area = view.viewportTransform().mapRect(place.translated(item.pos())).toRect()
    return view.viewport().grab(area).toImage()


def near(a: QColor, b: QColor) -> bool:
    """Whether two colours look the same."""
    return sum(abs(x - y) for x, y in zip(a.getRgb()[:3], b.getRgb()[:3], strict=True)) <= NEAR


def share(image: QImage, color: QColor) -> float:
    """How much of a picture has a colour."""
    pixels = [(x, y) for x in range(image.width()) for y in range(image.height())]
    return sum(near(image.pixelColor(x, y), color) for x, y in pixels) / len(pixels)


def around(view: CanvasView, point: QPointF, px: int = 2) -> QImage:
    """A few pixels around a point of the scene."""
    view.viewport().repaint()
    at = view.viewportTransform().map(point).toPoint()
    return view.viewport().grab().toImage().copy(at.x() - px, at.y() - px, 2 * px + 1, 2 * px + 1)


@pytest.mark.parametrize("state", list(NODE_LOOKS))
def test_the_state_of_a_node_has_its_colour_in_the_footer_only(
    view: CanvasView, state: str
) -> None:
    view.set_run_state(run(train=node_state(state)))
    item = view.graph_scene.nodes["train"]
    color = getattr(theme.colors(), NODE_LOOKS[state].role)
    body = layout.body_height(item.content)
    line = QRectF(8, body + layout.FOOTER_PAD, layout.WIDTH - 16, layout.FOOTER_LINE)
    assert share(seen(view, "train", line), color) > 0.005  # the glyph and the words
    summary = QRectF(12, layout.HEADER + 3, layout.WIDTH - 24, layout.SUMMARY - 6)
    if near(color, theme.colors().text_muted):
        return  # the colour of plain text
    assert share(seen(view, "train", summary), color) == 0.0


@pytest.mark.parametrize(("severity", "role"), [("error", "danger"), ("warning", "warning")])
def test_a_badge_lies_in_the_header_and_has_the_colour_of_its_problems(
    view: CanvasView, severity: str, role: str
) -> None:
    item = view.graph_scene.nodes["data"]
    header = QRectF(0, 0, layout.WIDTH, layout.HEADER)
    for count in (1, 12, 345):
        view.set_problems([Problem("Dataset: it.", "data", severity=severity)] * count)
        pill = badge_rect(item)
        assert header.contains(pill)
        assert share(seen(view, "data", pill), getattr(theme.colors(), role)) > 0.3
    view.set_problems([])
    assert share(seen(view, "data", pill), getattr(theme.colors(), role)) == 0.0


def test_wires_have_the_colour_of_what_they_carry(view: CanvasView) -> None:
    for wire, item in view.graph_scene.wires.items():
        node = view.document.graph.node(wire.source)
        kind = view.graph_scene.nodes[node.id].wired[("output", wire.source_port)]
        middle = item.mapToScene(item.path.pointAtPercent(0.5))
        color = theme.colors().port(kind)
        picture = around(view, middle)
        pixels = [picture.pixelColor(x, y) for x in range(5) for y in range(5)]
        assert any(near(pixel, color) for pixel in pixels), wire


def test_a_port_is_filled_when_it_is_wired(view: CanvasView) -> None:
    item = view.graph_scene.nodes["train"]
    for side in ("input", "output"):
        for port in item.content.ports(side):
            at = item.pos() + layout.port_point(item.content, side, port.name)
            wired = item.wired.get((side, port.name))
            fill = theme.colors().port(wired) if wired else theme.colors().surface_raised
            assert share(around(view, at, 1), fill) > 0.8, port.name


def test_a_selected_node_is_outlined(view: CanvasView) -> None:
    edge = QRectF(60, -2, 60, 4)
    accent = theme.colors().accent
    assert share(seen(view, "data", edge), accent) == 0.0
    view.select(("data",))
    assert share(seen(view, "data", edge), accent) > 0.2


# ------------------------------------------------------------------ texts

Drawn = list[tuple[str, QRectF, int, bool]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Every text that a node draws, with its place."""
    found: Drawn = []
    draw: Callable[..., None] = text.draw

    def record(painter, item, words, rect, color, pixels, bold=False, flags=text.LEFT):  # type: ignore[no-untyped-def]
        found.append((words, QRectF(rect), pixels, bold))
        draw(painter, item, words, rect, color, pixels, bold, flags)

    monkeypatch.setattr(node_paint.text, "draw", record)
    return found


def painted_width(drawn: tuple[str, QRectF, int, bool]) -> float:
    words, rect, pixels, bold = drawn
    return min(rect.width(), text.width(words, pixels, bold))


@pytest.mark.parametrize("state", list(NODE_LOOKS))
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_every_text_lies_within_its_node(
    view: CanvasView, drawn: Drawn, state: str, scale: float
) -> None:
    view.zoom_to(scale)
    view.set_problems([Problem("Train: it.", "train")])
    view.set_run_state(run(train=node_state(state, **TRAINING)), progress())
    item = view.graph_scene.nodes["train"]
    item.set_note(NOTE, False)
    drawn.clear()
    view.viewport().repaint()
    places = [rect for words, rect, _, _ in drawn if words]
    assert places
    assert all(item.card.adjusted(-1, -1, 1, 1).contains(rect) for rect in places)


@pytest.mark.parametrize("title", ["Train", "Train, rank 64", "Train on the answers", "T" * 60])
def test_title_note_and_badge_do_not_overlap(view: CanvasView, drawn: Drawn, title: str) -> None:
    """A note that does not fit is shortened to what is true alone, or omitted."""
    view.document.edit(retitle(view.document.graph, "train", title), "Rename")
    view.set_problems([Problem("Train: it.", "train")])
    item = view.graph_scene.nodes["train"]
    item.set_note(NOTE, False)
    drawn.clear()
    view.viewport().repaint()
    named = [one for one in drawn if one[0] == title and one[3]][-1]
    notes = [one for one in drawn if one[0].startswith("~")]
    for note in notes:
        assert note[0].split(" · ")[0].endswith(" GiB")
        assert named[1].left() + painted_width(named) <= note[1].left() + 1
        assert note[1].right() <= badge_rect(item).left()
    assert named[1].left() + painted_width(named) <= badge_rect(item).left()
    if title == "Train":
        assert notes
