"""Tooltips of the canvas, and the current node for screen readers.

Why not an interface per node: objects of ``QAccessibleInterface`` made in Python are owned by Qt's
cache and by Python alike, and the program crashes when it ends (PySide6 6.11). The canvas speaks
through its accessible description and through announcements instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6 import QtGui
from PySide6.QtCore import QPointF
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QWidget

from studio.errors import counted
from studio.graph.facts import short_line
from ui.canvas.node_item import NodeItem
from ui.canvas.node_paint import badge_rect

if TYPE_CHECKING:
    from ui.canvas.scene import GraphScene

NOTHING = "Nothing selected"
_MOST_WIRES = 20


def tip_at(scene: GraphScene, point: QPointF) -> str:
    """The tooltip at a point of the scene; empty if there is none."""
    port = scene.port_at(point)
    if port is not None:
        item, side, name = port
        content = item.content.port(side, name)
        return content.tip if content else ""
    node = scene.node_at(point)
    if node is not None:
        return node_tip(node, point)
    wire = scene.wire_at(point)
    if wire is None:
        return ""
    source, target = scene.nodes[wire.wire.source], scene.nodes[wire.wire.target]
    carried = source.content.port("output", wire.wire.source_port)
    what = carried.title if carried else wire.wire.source_port
    return f"{what}: {source.content.title} → {target.content.title}"


def node_tip(item: NodeItem, point: QPointF) -> str:
    """A node's problems and state, and what it is for."""
    problems = [f"{p.sentence}\n{p.hint}".strip() for p in item.problems]
    if problems and badge_rect(item).contains(point - item.pos()):
        return "\n".join(problems)
    parts = [f"{item.content.type_title}: {item.content.help}", item.content.summary]
    parts += [f"{f.label}: {f.value}" for f in item.content.facts]
    if item.note:
        verdict = ": does not fit" if item.note_warns else ""
        parts.append(f"Memory {item.note}{verdict}")
    if item.status is not None:
        parts += [item.status.sentence(), item.status.explained]
    return "\n".join(p for p in parts + problems if p)


def spoken(item: NodeItem) -> str:
    """A node in one line for screen readers."""
    content = item.content
    parts = [content.title]
    if content.type_title != content.title:
        parts.append(content.type_title)
    parts += [content.summary, short_line(content.facts)]
    if item.note:
        parts.append(f"memory {item.note}" + (", does not fit" if item.note_warns else ""))
    if item.status is not None:
        parts.append(item.status.sentence())
    if item.problems:
        parts.append(f"{counted(item.problems)}: {item.problems[0].sentence}")
    return ", ".join(p for p in parts if p)


def overview(scene: GraphScene) -> str:
    """The graph as text, while nothing is selected: its nodes, and what is connected to what."""
    count = len(scene.nodes)
    if not count:
        return f"{NOTHING}. The canvas is empty"
    title = {node_id: item.content.title for node_id, item in scene.nodes.items()}
    joined = [f"{title[w.source]} to {title[w.target]}" for w in scene.wires]
    more = f", and {len(joined) - _MOST_WIRES} more" if len(joined) > _MOST_WIRES else ""
    nodes = (
        f"{count} node{'s' if count > 1 else ''}: {', '.join(list(title.values())[:_MOST_WIRES])}"
    )
    wires = f". Connected: {', '.join(joined[:_MOST_WIRES])}{more}" if joined else ""
    return f"{NOTHING}. {nodes}{wires}"


def announce(view: QWidget, line: str) -> None:
    """Make a line the canvas's accessible description, and have a new one read, except for the overview."""
    if line == view.accessibleDescription():
        return
    view.setAccessibleDescription(line)
    announcement = getattr(QtGui, "QAccessibleAnnouncementEvent", None)  # Qt 6.8 and newer
    if (
        not line.startswith(NOTHING)
        and announcement is not None
        and QAccessible.isActive()
        and view.hasFocus()
    ):
        QAccessible.updateAccessibility(announcement(view, line))
