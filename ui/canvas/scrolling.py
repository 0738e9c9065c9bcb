"""What scrolling does on the canvas: a mouse wheel zooms, two fingers on a touchpad pan.

macOS and Wayland report touchpads with pixels and phases, X11 with the device. Windows reports neither, and
one message per axis: there a touchpad is recognized by turns that are no fractions of a notch, and a
diagonal scroll alternates between both axes. Therefore the device is kept while the scrolling lasts.
"""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QInputDevice, QWheelEvent

from ui.canvas.camera import WHEEL, Camera

Mode = Literal["auto", "zoom", "pan"]
_PAUSE_MS = 400
_PIXELS_PER_TURN = 0.5  # a notch of 120 is 60 pixels, as in Qt's scroll areas
_TURNS_PER_PIXEL = 2
_NOTCH_FRACTIONS = (15, 20)  # wheels with a high resolution report these parts of 120


class Scrolling:
    """The scrolling of one view; ``mode`` makes every device zoom or pan."""

    def __init__(self, camera: Camera) -> None:
        self.mode: Mode = "auto"
        self._camera = camera
        self._touchpad = False
        self._zooms = False
        self._last_ms: int | None = None
        self._rest = QPointF()

    def scroll(self, event: QWheelEvent) -> None:
        """Zoom or pan by one event."""
        touchpad = self._is_touchpad(event)
        if event.phase() != Qt.ScrollPhase.ScrollMomentum:  # a key pressed meanwhile is not meant
            self._zooms = self._should_zoom(event, touchpad)
        if self._zooms:
            turn = event.angleDelta().y() or event.pixelDelta().y() * _TURNS_PER_PIXEL
            self._camera.zoom_by(WHEEL**turn, event.position())
        else:
            self._camera.pan(self._shift(event, touchpad))

    def _is_touchpad(self, event: QWheelEvent) -> bool:
        now, last = event.timestamp(), self._last_ms
        self._last_ms = now
        begins = event.phase() == Qt.ScrollPhase.ScrollBegin
        if begins or last is None or now - last > _PAUSE_MS:
            self._touchpad, self._rest = False, QPointF()
        if not self._touchpad:
            self._touchpad = (
                event.phase() != Qt.ScrollPhase.NoScrollPhase
                or not event.pixelDelta().isNull()
                or event.device().type() == QInputDevice.DeviceType.TouchPad
                or not (_is_wheel(event.angleDelta().x()) and _is_wheel(event.angleDelta().y()))
            )
        return self._touchpad

    def _should_zoom(self, event: QWheelEvent, touchpad: bool) -> bool:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:  # also a pinch on Windows
            return True
        if self.mode == "pan" or (touchpad and self.mode == "auto"):
            return False
        turn = event.angleDelta()
        sideways = abs(turn.x()) > abs(turn.y())
        return not (sideways or event.modifiers() & Qt.KeyboardModifier.ShiftModifier)

    def _shift(self, event: QWheelEvent, touchpad: bool) -> QPoint:
        """The shift in whole pixels; the rest is added to the next one."""
        if not event.pixelDelta().isNull():
            return event.pixelDelta()
        turn = event.angleDelta()
        shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if shifted and not touchpad and not turn.x():
            turn = turn.transposed()
        exact = QPointF(turn) * _PIXELS_PER_TURN + self._rest
        whole = QPoint(int(exact.x()), int(exact.y()))
        self._rest = exact - QPointF(whole)
        return whole


def _is_wheel(turn: int) -> bool:
    """Whether a wheel may have turned by this."""
    return any(turn % part == 0 for part in _NOTCH_FRACTIONS)
