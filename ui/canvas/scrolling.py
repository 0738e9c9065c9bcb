"""What scrolling does on the canvas: a mouse wheel zooms, two fingers on a touchpad pan."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent

from ui.canvas.camera import WHEEL, Camera
from ui.style.touchpad import ScrollDevice

Mode = Literal["auto", "zoom", "pan"]
_TURNS_PER_PIXEL = 2


class Scrolling:
    """The scrolling of one view; ``mode`` makes every device zoom or pan."""

    def __init__(self, camera: Camera) -> None:
        self.mode: Mode = "auto"
        self._camera = camera
        self._device = ScrollDevice()
        self._zooms = False

    def scroll(self, event: QWheelEvent) -> None:
        """Zoom or pan by one event."""
        touchpad = self._device.is_touchpad(event)
        if event.phase() != Qt.ScrollPhase.ScrollMomentum:  # a key pressed meanwhile is not meant
            self._zooms = self._should_zoom(event, touchpad)
        if self._zooms:
            turn = event.angleDelta().y() or event.pixelDelta().y() * _TURNS_PER_PIXEL
            self._camera.zoom_by(WHEEL**turn, event.position())
        else:
            self._camera.pan(self._device.shift(event))

    def _should_zoom(self, event: QWheelEvent, touchpad: bool) -> bool:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:  # also a pinch on Windows
            return True
        if self.mode == "pan" or (touchpad and self.mode == "auto"):
            return False
        turn = event.angleDelta()
        sideways = abs(turn.x()) > abs(turn.y())
        return not (sideways or event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
