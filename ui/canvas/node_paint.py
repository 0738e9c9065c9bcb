"""Painting of a node: its card and its ports. Reads a ``NodeItem`` and the theme; keeps nothing but
caches.

Three levels of detail: ``full``, ``titles`` (no small text) and ``plain`` (a rectangle per node).
State is always shown by glyph and words as well as colour.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import (
    QBrush,
    QColor,
    QPainter,
    QPainterPath,
    QPen,
)

from studio.graph.facts import short_line
from studio.runs.status import NODE_LOOKS
from ui.canvas import layout, shapes, text
from ui.canvas.content import PortContent
from ui.canvas.status import NodeStatus
from ui.style import icons, theme

if TYPE_CHECKING:
    from ui.canvas.node_item import NodeItem


Detail = Literal["full", "titles", "plain"]
_PAD = 12.0
_PILL_GAP = 3.0
_LABEL_PAD = 16.0
_HEADER_PX = 22
_FOCUS_PX, _FOCUS_RADIUS = 2.2, 11.0
_DIMMED = 0.45


@lru_cache(maxsize=8)
def _header_path() -> QPainterPath:
    r = float(layout.RADIUS)
    path = QPainterPath(QPointF(0, layout.HEADER))
    path.lineTo(0, r)
    path.arcTo(0, 0, 2 * r, 2 * r, 180, -90)
    path.lineTo(layout.WIDTH - r, 0)
    path.arcTo(layout.WIDTH - 2 * r, 0, 2 * r, 2 * r, 90, -90)
    path.lineTo(layout.WIDTH, layout.HEADER)
    path.closeSubpath()
    return path


def paint(painter: QPainter, item: NodeItem, detail: Detail) -> None:
    """Paint one node."""
    c = theme.colors()
    if detail == "plain":
        _plain(painter, item, c)
        return
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    changed = item.status is not None and item.status.dimmed
    dimmed = (item.lit is not None and not item.lit) or changed
    if dimmed:
        painter.setOpacity(_DIMMED)
    _card(painter, item, c)
    if detail == "full":
        _header(painter, item, c)
        _summary(painter, item, c)
    else:
        _large_title(painter, item, c)
    paint_ports(painter, item, c, detail == "full")
    if dimmed and changed:
        painter.setOpacity(1.0)  # the reason is not dimmed
    if item.status is not None:
        _footer(painter, item, item.status, c)
    painter.setOpacity(1.0)


@lru_cache(maxsize=64)
def _tint(scheme: str, category: str, share: float) -> QColor:
    c = theme.colors()
    return theme.blend(c.surface_raised, c.category(category), share)


def _plain(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    painter.fillRect(item.card, _tint(c.name, item.content.category, 0.35))
    outline = _outline(item, c)
    if outline != c.border:
        painter.setPen(QPen(outline, 8))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(item.card)
    if item.status is not None:
        bar = QRectF(0, item.card.height() - 26, layout.WIDTH, 26)
        painter.fillRect(bar, getattr(c, NODE_LOOKS[item.status.state].role))


def _outline(item: NodeItem, c: theme.Colors) -> QColor:
    if item.selected:
        return c.accent
    failed = item.status is not None and item.status.state in ("failed", "unfit")
    if failed or any(p.blocks for p in item.problems):
        return c.danger
    return c.border


def _card(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    r = layout.RADIUS
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(c.shadow)
    painter.drawRoundedRect(item.card.translated(0, 2.5).adjusted(-1, 0, 1, 1), r + 1, r + 1)
    if item.selected:
        glow = QColor(c.accent)
        glow.setAlpha(70 if item.current else 45)
        painter.setBrush(glow)
        painter.drawRoundedRect(item.card.adjusted(-4, -4, 4, 4), r + 4, r + 4)
    painter.setBrush(c.surface_raised)
    painter.drawRoundedRect(item.card, r, r)
    painter.setBrush(_tint(c.name, item.content.category, 0.16 if c.dark else 0.11))
    painter.drawPath(_header_path())
    painter.setBrush(Qt.BrushStyle.NoBrush)
    pen = QPen(_outline(item, c), 1.6 if item.selected else 1.0)
    if item.content.missing:
        pen.setStyle(Qt.PenStyle.DashLine)
        pen.setColor(c.danger if not item.selected else c.accent)
    painter.setPen(pen)
    painter.drawRoundedRect(item.card.adjusted(0.5, 0.5, -0.5, -0.5), r - 0.5, r - 0.5)


def _header(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    tint = c.text_muted if item.content.missing else c.category(item.content.category)
    text.draw_icon(painter, icons.known(item.content.icon), QRectF(_PAD, 10, 16, 16), tint)
    room = layout.WIDTH - 2 * _PAD - 26
    if item.problems:
        room -= _badge(painter, item, c)
    room -= _note(painter, item, c, room)
    rect = QRectF(_PAD + 26, 0, room, layout.HEADER)
    title = item.content.title
    text.draw(painter, item, title, rect, c.text, _title_px(item, room), True)


def _title_px(item: NodeItem, room: float) -> int:
    """The size of a title in the header: smaller before it is shortened."""
    pixels = min(item.title_px, _HEADER_PX)
    while pixels > text.TITLE and text.width(item.content.title, pixels, True) > room:
        pixels -= 1
    return pixels


def _large_title(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    """Where there is no small text, the title has the space of all lines."""
    side = min(item.title_px, layout.HEADER - 8)
    tint = c.text_muted if item.content.missing else c.category(item.content.category)
    icon = QRectF(_PAD, (layout.HEADER - side) / 2, side, side)
    text.draw_icon(painter, icons.known(item.content.icon), icon, tint)
    if item.problems:
        _badge(painter, item, c)
    top = layout.HEADER + 2.0
    rect = QRectF(_PAD, top, layout.WIDTH - 2 * _PAD, layout.body_height(item.content) - top - 2)
    text.draw_wrapped(painter, item, item.content.title, rect, c.text, item.title_px)


def _note(painter: QPainter, item: NodeItem, c: theme.Colors, room: float) -> float:
    """The node's note at the right, where the title leaves room; returns what it takes."""
    title = text.width(item.content.title, text.TITLE, True)
    pixels = text.size(text.SMALL, item.grown)
    shorter = item.note.partition(" · ")[0]
    for line in (item.note, shorter, _without_total(shorter)):
        taken = text.width(line, pixels) + 8
        if line and title + taken <= room:
            place = QRectF(_PAD + 26 + room - taken, 0, taken, layout.HEADER)
            color = c.danger if item.note_warns else c.text_muted
            text.draw(painter, item, line, place, color, pixels, item.note_warns, text.RIGHT)
            return taken
    return 0.0


def _without_total(note: str) -> str:
    """``~1.7 GiB`` from ``~1.7 of 15 GiB``."""
    used, of, total = note.partition(" of ")
    return f"{used} {total.rpartition(' ')[2]}" if of else ""


def _summary(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    """The type's short line; smaller where it would not fit."""
    rect = QRectF(_PAD, layout.HEADER + 4, layout.WIDTH - 2 * _PAD, layout.SUMMARY - 6)
    line = item.content.summary
    pixels = text.size(text.LABEL, item.grown)
    while pixels > text.SMALL and text.width(line, pixels) > rect.width():
        pixels -= 1
    text.draw(painter, item, line, rect, c.text_muted, pixels)


def _badge(painter: QPainter, item: NodeItem, c: theme.Colors) -> float:
    """Pills with glyph and count in the header's right end, problems and warnings apart; returns the room they take."""
    place = badge_rect(item)
    left = place.x()
    for role, name, count in _pills(item):
        pill = QRectF(left, place.y(), _pill_width(count), place.height())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(getattr(c, role))
        painter.drawRoundedRect(pill, 9, 9)
        text.draw_icon(painter, name, QRectF(left + 4, pill.y() + 3, 12, 12), c.text_on_accent)
        inside = pill.adjusted(15, 0, -2, 0)
        text.draw(painter, item, str(count), inside, c.text_on_accent, 11, True, text.CENTER)
        left = pill.right() + _PILL_GAP
    return place.width() + 6


def _pills(item: NodeItem) -> list[tuple[str, str, int]]:
    """Colour, icon and count of the problems of a node, and of its warnings."""
    problems = sum(p.blocks for p in item.problems)
    pills = [
        ("danger", "circle-alert", problems),
        ("warning", "triangle-alert", len(item.problems) - problems),
    ]
    return [pill for pill in pills if pill[2]]


def _pill_width(count: int) -> float:
    return 26.0 + 7 * len(str(count))


def badge_rect(item: NodeItem) -> QRectF:
    """Where the problems badge lies, from the card's corner."""
    widths = [_pill_width(count) for _, _, count in _pills(item)]
    width = sum(widths) + _PILL_GAP * (len(widths) - 1)
    return QRectF(layout.WIDTH - _PAD + 2 - width, 9, width, 18)


def _footer(painter: QPainter, item: NodeItem, status: NodeStatus, c: theme.Colors) -> None:
    top = layout.body_height(item.content)
    look = NODE_LOOKS[status.state]
    color = getattr(c, look.role)
    painter.setPen(QPen(c.border, 1))
    painter.drawLine(QPointF(1, top + 0.5), QPointF(layout.WIDTH - 1, top + 0.5))
    y = top + layout.FOOTER_PAD
    text.draw_icon(painter, look.icon, QRectF(_PAD - 1, y + 2, 14, 14), color)
    line = QRectF(_PAD, y, layout.WIDTH - 2 * _PAD, layout.FOOTER_LINE)
    _footer_line(painter, item, line, (status.left, color, True), status.right, c)
    if status.lines > 1:
        line.translate(0, layout.FOOTER_LINE)
        detail = (status.detail, c.text_muted, False)
        _footer_line(painter, item, line, detail, status.detail_right, c)
    if status.bar:
        _progress(painter, item, status.fraction, c)


def _footer_line(
    painter: QPainter,
    item: NodeItem,
    line: QRectF,
    left: tuple[str, QColor, bool],
    right: str,
    c: theme.Colors,
) -> None:
    """Text on the left, a number on the right that is never truncated; enlarged only while both
    fit."""
    pixels = text.size(text.SMALL, item.grown)
    while pixels > text.SMALL and (
        text.width(left[0], pixels, left[2]) + text.width(right, pixels) + 28 > line.width()
    ):
        pixels -= 1
    beside = text.width(right, pixels) + 6 if right else 0.0
    words, color, bold = left
    text.draw(painter, item, words, line.adjusted(20, 0, -beside, 0), color, pixels, bold)
    text.draw(painter, item, right, line.adjusted(-1, 0, 0, 0), c.text, pixels, False, text.RIGHT)


def _progress(painter: QPainter, item: NodeItem, fraction: float | None, c: theme.Colors) -> None:
    """A progress bar along the card's lower edge; faint and full if the total is unknown."""
    track = QRectF(_PAD, item.card.height() - layout.BAR - 5, layout.WIDTH - 2 * _PAD, layout.BAR)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.blend(c.surface_raised, c.accent, 0.25))
    painter.drawRoundedRect(track, 1.5, 1.5)
    if fraction:
        track.setWidth(track.width() * fraction)
        painter.setBrush(c.accent)
        painter.drawRoundedRect(track, 1.5, 1.5)


def paint_ports(painter: QPainter, item: NodeItem, c: theme.Colors, labels: bool) -> None:
    """Every port of a node; with ``labels`` also its title and the facts of the node."""
    for side in ("input", "output"):
        for row, port in enumerate(item.content.ports(side)):
            at = layout.port_point(item.content, side, port.name)
            lit = item.lit is not None and (side, port.name) in item.lit
            faded = bool(item.lit) and not lit
            if labels:
                _label(painter, item, port, row, c, lit, faded)
            _port(painter, item, port, at, c, lit, faded)
    if labels and not item.content.inputs:
        _facts(painter, item, c)


def _facts(painter: QPainter, item: NodeItem, c: theme.Colors) -> None:
    """The facts of the node, drawn in place of inputs."""
    pixels = text.size(text.SMALL, item.grown)
    taken = max((text.width(p.title, pixels) for p in item.content.outputs), default=0.0)
    room = layout.WIDTH - _PAD - _LABEL_PAD - taken - 14
    rect = QRectF(_PAD, layout.port_y(0) - 11, room, 22)
    line = short_line(item.content.facts)
    if text.width(line, pixels) > room:  # a truncated number would be misleading
        line = line.partition(" · ")[0]
    text.draw(painter, item, line, rect, c.text_muted, pixels)


def _label(
    painter: QPainter,
    item: NodeItem,
    port: PortContent,
    row: int,
    c: theme.Colors,
    lit: bool,
    faded: bool,
) -> None:
    """A port's title; it may use the space that the opposite title leaves free."""
    pixels = text.size(text.LABEL, item.grown)
    room = width = layout.WIDTH - 2 * _LABEL_PAD
    across = item.content.ports("output" if port.side == "input" else "input")
    if row < len(across):
        room = max(width / 2 - 4, width - 8 - text.width(across[row].title, pixels))
    left = _LABEL_PAD if port.side == "input" else layout.WIDTH - _LABEL_PAD - room
    rect = QRectF(left, layout.port_y(row) - 11, room, 22)
    color = theme.blend(c.surface_raised, c.text_muted, 0.4) if faded else c.text_muted
    flags = text.LEFT if port.side == "input" else text.RIGHT
    text.draw(painter, item, port.title, rect, c.text if lit else color, pixels, False, flags)


def _port(
    painter: QPainter,
    item: NodeItem,
    port: PortContent,
    at: QPointF,
    c: theme.Colors,
    lit: bool,
    faded: bool,
) -> None:
    key = (port.side, port.name)
    carried = item.wired.get(key)
    type_id = carried or port.type
    color = c.port(type_id)
    if faded:
        color = theme.blend(c.surface_raised, color, 0.3)
    painter.save()
    painter.translate(at)
    if lit or item.hovered_port == key:
        halo = QColor(color)
        halo.setAlpha(80)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(halo)
        painter.drawEllipse(QPointF(), 12, 12)
    if item.focused_port == key:
        painter.setPen(QPen(c.text, _FOCUS_PX / max(0.3, min(1.0, painter.worldTransform().m11()))))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(QPointF(), _FOCUS_RADIUS, _FOCUS_RADIUS)
    painter.setPen(QPen(c.surface_raised, 3.5))
    path = shapes.port_path(type_id)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPath(path)
    filled = carried is not None or lit
    painter.setPen(QPen(color, 1.8))
    painter.setBrush(QBrush(color if filled else c.surface_raised))
    painter.drawPath(path)
    if len(port.types) > 1 and not filled:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(c.port(port.types[1]))
        painter.drawPath(shapes.port_path(port.types[1], 2.6))
    painter.restore()
