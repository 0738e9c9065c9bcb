"""Tells a touchpad from a wheel, and its scrolling in pixels.

macOS and Wayland report touchpads with pixels and phases, X11 with the device. Windows reports neither, and
one message per axis: there a touchpad is recognized by turns that are not fractions of a notch, and a
diagonal scroll alternates between both axes. Therefore the device is kept while the scrolling lasts.
"""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QInputDevice, QWheelEvent

MIN_PINCH = 0.5  # the smallest factor of one event
_PAUSE_MS = 400
_PIXELS_PER_TURN = 0.5  # a notch of 120 is 60 pixels, as in Qt's scroll areas
_NOTCH_FRACTIONS = (15, 20)  # wheels with a high resolution report these parts of 120


class ScrollDevice:
    """The device that scrolls one widget; it is given every wheel event, in order."""

    def __init__(self) -> None:
        self._touchpad = False
        self._last_ms: int | None = None
        self._rest = QPointF()

    def is_touchpad(self, event: QWheelEvent) -> bool:
        """Whether a touchpad sent this event; called once for each."""
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

    def shift(self, event: QWheelEvent) -> QPoint:
        """The scrolling in whole pixels; the rest is added to the next one. Shift with a wheel scrolls
        sideways."""
        if not event.pixelDelta().isNull():
            return event.pixelDelta()
        turn = event.angleDelta()
        shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if shifted and not self._touchpad and not turn.x():
            turn = turn.transposed()
        exact = QPointF(turn) * _PIXELS_PER_TURN + self._rest
        whole = QPoint(int(exact.x()), int(exact.y()))
        self._rest = exact - QPointF(whole)
        return whole


def _is_wheel(turn: int) -> bool:
    """Whether a wheel may have turned by this."""
    return any(turn % part == 0 for part in _NOTCH_FRACTIONS)
