"""What a user's hands do: real mouse and key events for the canvas's tests."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt
from PySide6.QtGui import (
    QContextMenuEvent,
    QDragEnterEvent,
    QDropEvent,
    QKeyEvent,
    QNativeGestureEvent,
    QPointingDevice,
    QWheelEvent,
)
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractScrollArea, QApplication

from studio.graph.project import from_data
from ui.canvas.view import CanvasView

LEFT, MIDDLE = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton
NONE = Qt.KeyboardModifier.NoModifier
SHIFT, CTRL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
STILL = QPoint(0, 0)
ALT = Qt.KeyboardModifier.AltModifier

STARTER = {
    "format": "lora-studio",
    "version": 3,
    "name": "Support tone",
    "nodes": [
        {"id": "data", "type": "dataset", "position": [0, 0], "settings": {"source": "s.jsonl"}},
        {"id": "base", "type": "base_model", "position": [0, 160]},
        {"id": "lora", "type": "lora", "position": [260, 160]},
        {"id": "train", "type": "train", "position": [520, 80]},
        {"id": "merge", "type": "merge", "position": [780, 80]},
        {"id": "export", "type": "export", "position": [1040, 80]},
    ],
    "wires": [
        {"from": "data.dataset", "to": "train.dataset"},
        {"from": "base.model", "to": "lora.model"},
        {"from": "lora.model", "to": "train.model"},
        {"from": "train.adapter", "to": "merge.adapter"},
        {"from": "merge.model", "to": "export.model"},
    ],
}


def starter():
    """The starter graph."""
    return from_data(STARTER)


def without(*wires: str):
    """The starter graph without the wires that end at these ports."""
    data = dict(STARTER, wires=[w for w in STARTER["wires"] if w["to"] not in wires])
    return from_data(data)


def move(view: CanvasView, at: QPoint) -> None:
    """Move the mouse."""
    QTest.mouseMove(view.viewport(), at)
    QApplication.processEvents()


def press(view: CanvasView, at: QPoint, button=LEFT, modifiers=NONE) -> None:
    """Press a button."""
    QTest.mousePress(view.viewport(), button, modifiers, at)


def release(view: CanvasView, at: QPoint, button=LEFT, modifiers=NONE) -> None:
    """Let a button go."""
    QTest.mouseRelease(view.viewport(), button, modifiers, at)


def drag_to(view: CanvasView, start: QPoint, end: QPoint, button=LEFT, modifiers=NONE) -> None:
    """Press at one place and move to another in steps, without letting go."""
    press(view, start, button, modifiers)
    for step in range(1, 7):
        move(view, start + (end - start) * (step / 6))


def drag(view: CanvasView, start: QPoint, end: QPoint, button=LEFT, modifiers=NONE) -> None:
    """A whole drag."""
    drag_to(view, start, end, button, modifiers)
    release(view, end, button, modifiers)


def click(view: CanvasView, at: QPoint, modifiers=NONE) -> None:
    """A click."""
    QTest.mouseClick(view.viewport(), LEFT, modifiers, at)


def double_click(view: CanvasView, at: QPoint) -> None:
    """A double click."""
    click(view, at)
    QTest.mouseDClick(view.viewport(), LEFT, NONE, at)


def key(view: CanvasView, *keys, modifiers=NONE) -> None:
    """Press keys one after the other."""
    for one in keys:
        QTest.keyClick(view, one, modifiers)


def key_down(view: CanvasView, one: Qt.Key) -> None:
    """Press a key and hold it."""
    QApplication.sendEvent(view, QKeyEvent(QKeyEvent.Type.KeyPress, one, NONE))


def key_up(view: CanvasView, one: Qt.Key) -> None:
    """Let a key go."""
    QApplication.sendEvent(view, QKeyEvent(QKeyEvent.Type.KeyRelease, one, NONE))


def wheel(view: CanvasView, at: QPoint, turn: int, modifiers=NONE) -> None:
    """Turn the wheel by eighths of a degree; a notch is 120."""
    scroll(view, at, QPoint(0, turn), modifiers=modifiers)


def scroll(
    view: QAbstractScrollArea,
    at: QPoint,
    turn: QPoint = STILL,
    pixels: QPoint = STILL,
    phase=Qt.ScrollPhase.NoScrollPhase,
    modifiers=NONE,
    ms: int = 0,
    device: QPointingDevice | None = None,
) -> None:
    """A wheel event as window systems send it: with turns, pixels, phase, time and device."""
    event = QWheelEvent(
        QPointF(at),
        QPointF(view.viewport().mapToGlobal(at)),
        pixels,
        turn,
        Qt.MouseButton.NoButton,
        modifiers,
        phase,
        False,
        Qt.MouseEventSource.MouseEventNotSynthesized,
        device or QPointingDevice.primaryPointingDevice(),
    )
    event.setTimestamp(ms)
    QApplication.sendEvent(view.viewport(), event)


def pinch(view: QAbstractScrollArea, at: QPoint, value: float) -> None:
    """Move two fingers apart (a positive value) or together on a touchpad."""
    place = QPointF(at)
    event = QNativeGestureEvent(
        Qt.NativeGestureType.ZoomNativeGesture,
        QPointingDevice.primaryPointingDevice(),
        2,
        place,
        place,
        QPointF(view.viewport().mapToGlobal(at)),
        value,
        QPointF(),
    )
    QApplication.sendEvent(view.viewport(), event)


def right_click(view: CanvasView, at: QPoint) -> None:
    """Ask for the context menu."""
    reason = QContextMenuEvent.Reason.Mouse
    event = QContextMenuEvent(reason, at, view.viewport().mapToGlobal(at))
    QApplication.sendEvent(view.viewport(), event)


def drop(view: CanvasView, data: QMimeData, at: QPoint) -> bool:
    """Drop data; whether it was taken."""
    copy = Qt.DropAction.CopyAction
    enter = QDragEnterEvent(at, copy, data, LEFT, NONE)
    QApplication.sendEvent(view.viewport(), enter)
    if not enter.isAccepted():
        return False
    event = QDropEvent(QPointF(at), copy, data, LEFT, NONE)
    QApplication.sendEvent(view.viewport(), event)
    return event.isAccepted()


def header(view: CanvasView, node_id: str) -> QPoint:
    """A place on a node where it is grabbed."""
    rect = view.node_rect_in_view(node_id)
    return QPoint(rect.center().x(), rect.top() + 15)


def port(view: CanvasView, end: str, side: str) -> QPoint:
    """The centre of the port ``node.port``."""
    node_id, _, name = end.partition(".")
    point = view.graph_scene.nodes[node_id].port_point(side, name)
    return view.viewportTransform().map(point).toPoint()


def wires(view: CanvasView) -> set[str]:
    """The document's wires as ``a.x > b.y``."""
    return {f"{w.start} > {w.end}" for w in view.document.graph.wires}
