"""A graphics view whose mouse is handled by gesture objects: one at a time, Esc cancels it.

It handles zoom, pan and the hand (Space); ``CanvasView`` decides which gesture a press begins.
"""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import (
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QGraphicsView, QWidget

from ui.canvas.camera import Camera
from ui.canvas.gestures import Gesture, Pan
from ui.canvas.scrolling import Scrolling
from ui.style.touchpad import MIN_PINCH

_HELD = Qt.MouseButton.LeftButton | Qt.MouseButton.MiddleButton


class PointerView(QGraphicsView):
    """Mouse, wheel and pinch of the canvas."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.camera = Camera(self)
        self.scrolling = Scrolling(self.camera)
        self._gesture: Gesture | None = None
        self._hand = False
        self._mouse: QPointF | None = None
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setViewportUpdateMode(QGraphicsView.ViewportUpdateMode.SmartViewportUpdate)
        self.setTransformationAnchor(QGraphicsView.ViewportAnchor.NoAnchor)
        self.setResizeAnchor(QGraphicsView.ViewportAnchor.NoAnchor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)

    def gesture_for(self, event: QMouseEvent) -> Gesture | None:
        """What a press of the left button begins; overridden."""
        raise NotImplementedError

    def hover(self, at: QPointF | None) -> None:
        """The mouse moves without a button, or left (``None``); overridden."""
        raise NotImplementedError

    def fit_all(self) -> None:
        """Show everything; overridden."""
        raise NotImplementedError

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: a fitted graph stays fitted."""
        super().resizeEvent(event)
        if self.camera.fitted and self._gesture is None:
            self.fit_all()

    @property
    def gesture(self) -> Gesture | None:
        """The current gesture, if any."""
        return self._gesture

    def cursor_view(self) -> QPointF:
        """The mouse in viewport pixels; the middle when it is elsewhere."""
        return self._mouse or QRectF(self.viewport().rect()).center()

    def cursor_scene(self) -> QPointF:
        """The mouse in scene coordinates."""
        return self.camera.to_scene(self.cursor_view())

    def cancel_gesture(self) -> bool:
        """Cancel the current gesture; returns whether there was one."""
        gesture, self._gesture = self._gesture, None
        if gesture is not None:
            gesture.cancel()
            self._show_cursor()
        return gesture is not None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: begin a gesture; a second button is ignored during one."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        self._mouse = event.position()
        left = event.button() == Qt.MouseButton.LeftButton
        if self._gesture is None:
            if event.button() == Qt.MouseButton.MiddleButton or (left and self._hand):
                self._gesture = Pan(self.camera, event.position())
            elif left:
                self._gesture = self.gesture_for(event)
            self._show_cursor()
        event.accept()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Qt: update the gesture, else the hovered item."""
        self._mouse = event.position()
        if self._gesture is not None:
            self._gesture.drag(event.position(), event.modifiers())
        else:
            self.hover(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Qt: the gesture ends with its last button."""
        if not event.buttons() & _HELD:
            gesture, self._gesture = self._gesture, None
            if gesture is not None:
                gesture.release(event.position(), event.modifiers())
                self._show_cursor()
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Qt: the mouse is elsewhere."""
        self._mouse = None
        self.hover(None)
        super().leaveEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Qt: a wheel zooms at the mouse, a touchpad pans."""
        self.scrolling.scroll(event)
        event.accept()

    def viewportEvent(self, event: QEvent) -> bool:
        """Qt: pinching on a touch pad zooms."""
        if isinstance(event, QNativeGestureEvent):
            if event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
                self.camera.zoom_by(max(MIN_PINCH, 1.0 + event.value()), event.position())
            return True
        return super().viewportEvent(event)

    def hold_hand(self, held: bool) -> None:
        """Space is down or up: the left button pans or not."""
        self._hand = held
        self._show_cursor()

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """Qt: Space is released."""
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self.hold_hand(False)
        else:
            event.ignore()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Qt: a key released in another window would be missed."""
        self.hold_hand(False)
        super().focusOutEvent(event)

    def _show_cursor(self) -> None:
        shape = self._gesture.cursor if self._gesture is not None else None
        if shape is None and self._hand:
            shape = Qt.CursorShape.OpenHandCursor
        self.viewport().setCursor(shape if shape is not None else Qt.CursorShape.ArrowCursor)
