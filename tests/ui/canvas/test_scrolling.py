"""Touchpads and wheels, with the events that each window system sends for them."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QInputDevice, QPointingDevice

from tests.ui.canvas.hands import CTRL, SHIFT, pinch, scroll, wheel
from ui.canvas.camera import MIN_SCALE

AT = QPoint(400, 250)
BEGIN, UPDATE = Qt.ScrollPhase.ScrollBegin, Qt.ScrollPhase.ScrollUpdate
END, MOMENTUM = Qt.ScrollPhase.ScrollEnd, Qt.ScrollPhase.ScrollMomentum
PAUSE = 2000


def corner(canvas) -> QPoint:
    """Where a node is shown."""
    return canvas.node_rect_in_view("train").topLeft()


def test_two_fingers_pan_in_both_directions_at_once(canvas):
    """As on macOS and Wayland: pixels and phases."""
    before = corner(canvas)
    scroll(canvas, AT, phase=BEGIN)
    for _ in range(5):
        scroll(canvas, AT, QPoint(6, -14), QPoint(3, -7), UPDATE)
    scroll(canvas, AT, QPoint(2, -40), QPoint(1, -20), MOMENTUM)
    scroll(canvas, AT, phase=END)
    assert corner(canvas) - before == QPoint(16, -55)
    assert canvas.camera.scale == 1.0
    assert canvas.document.undo_label is None


def test_pixels_without_phases_pan(canvas):
    before = corner(canvas)
    scroll(canvas, AT, QPoint(0, 240), QPoint(0, 11))
    assert (corner(canvas) - before, canvas.camera.scale) == (QPoint(0, 11), 1.0)


def test_phases_without_pixels_pan(canvas):
    before = corner(canvas)
    scroll(canvas, AT, QPoint(0, 120), phase=UPDATE)
    assert (corner(canvas) - before, canvas.camera.scale) == (QPoint(0, 60), 1.0)


def test_a_device_that_is_a_touchpad_pans(canvas):
    """As on X11."""
    pad = QPointingDevice(
        "pad",
        7,
        QInputDevice.DeviceType.TouchPad,
        QPointingDevice.PointerType.Finger,
        QInputDevice.Capability.Position,
        2,
        3,
    )
    before = corner(canvas)
    scroll(canvas, AT, QPoint(0, -120), device=pad)
    scroll(canvas, AT, QPoint(0, -120), device=pad, modifiers=SHIFT)
    assert (corner(canvas) - before, canvas.camera.scale) == (QPoint(0, -120), 1.0)


def test_a_diagonal_scroll_on_windows_does_not_jump(canvas):
    """One message per axis, turns alone; among them one that a wheel could have sent."""
    before = corner(canvas)
    turns = ((7, 0), (0, 9), (13, 0), (0, 120), (30, 0), (0, 15), (2, 0), (0, 4))
    for ms, (across, down) in enumerate(turns):
        scroll(canvas, AT, QPoint(across, down), ms=ms * 8)
    assert canvas.camera.scale == 1.0
    assert corner(canvas) - before == QPoint(26, 74)


def test_slow_fingers_lose_no_pixels(canvas):
    before = corner(canvas)
    for ms in range(40):
        scroll(canvas, AT, QPoint(0, -1), ms=ms * 10)
    assert corner(canvas) - before == QPoint(0, -20)


def test_a_wheel_zooms_again_after_the_touchpad(canvas):
    scroll(canvas, AT, QPoint(0, 7), ms=PAUSE)
    scroll(canvas, AT, QPoint(0, 120), ms=PAUSE + 10)
    assert canvas.camera.scale == 1.0
    scroll(canvas, AT, QPoint(0, 120), ms=2 * PAUSE)
    assert canvas.camera.scale > 1.1


@pytest.mark.parametrize("part", [15, 20, 30, 40, 60, 120, 240])
def test_a_wheel_with_any_resolution_zooms(canvas, part):
    scroll(canvas, AT, QPoint(0, part), ms=PAUSE)
    assert canvas.camera.scale == pytest.approx(1.0015**part)


def test_a_tilted_wheel_pans_sideways(canvas):
    before = corner(canvas)
    scroll(canvas, AT, QPoint(-120, 0))
    assert (corner(canvas) - before, canvas.camera.scale) == (QPoint(-60, 0), 1.0)
    wheel(canvas, AT, -120, SHIFT)
    assert (corner(canvas) - before, canvas.camera.scale) == (QPoint(-120, 0), 1.0)


def test_ctrl_zooms_with_a_touchpad_at_the_pointer(canvas):
    """On Windows a pinch arrives like this."""
    below = canvas.camera.to_scene(QPointF(AT))
    scroll(canvas, AT, QPoint(0, 37), modifiers=CTRL)
    assert canvas.camera.scale == pytest.approx(1.0015**37)
    assert (canvas.camera.to_scene(QPointF(AT)) - below).manhattanLength() <= 2.0


def test_a_key_pressed_while_the_picture_still_glides_does_not_zoom(canvas):
    scroll(canvas, AT, phase=BEGIN)
    scroll(canvas, AT, QPoint(0, 40), QPoint(0, 20), UPDATE)
    scroll(canvas, AT, phase=END)
    scroll(canvas, AT, QPoint(0, 40), QPoint(0, 20), MOMENTUM, CTRL)
    assert canvas.camera.scale == 1.0


@pytest.mark.parametrize(("mode", "grows"), [("zoom", True), ("pan", False)])
def test_the_setting_overrides_the_device(canvas, mode, grows):
    canvas.scrolling.mode = mode
    scroll(canvas, AT, QPoint(0, 40), QPoint(0, 20), UPDATE)
    scroll(canvas, AT, QPoint(0, 120), ms=PAUSE)
    assert (canvas.camera.scale > 1.1) is grows
    scroll(canvas, AT, QPoint(0, 120), modifiers=CTRL, ms=2 * PAUSE)
    assert canvas.camera.scale > 1.1


def test_pinching_zooms_at_the_fingers(canvas):
    below = canvas.camera.to_scene(QPointF(AT))
    for _ in range(5):
        pinch(canvas, AT, 0.05)
    assert canvas.camera.scale == pytest.approx(1.05**5)
    assert (canvas.camera.to_scene(QPointF(AT)) - below).manhattanLength() <= 4.0
    pinch(canvas, AT, -3.0)
    assert canvas.camera.scale > MIN_SCALE
