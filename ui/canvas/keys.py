"""Keys of the canvas without a menu action: Esc, Space, arrows, Ctrl+Tab, Enter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView

_ARROWS = (Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down)
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_TABS = (Qt.Key.Key_Tab, Qt.Key.Key_Backtab)


def press(view: CanvasView, event: QKeyEvent) -> bool:
    """Handle a key; False if the canvas does not use it."""
    key, modifiers = Qt.Key(event.key()), event.modifiers()
    ctrl = bool(modifiers & Qt.KeyboardModifier.ControlModifier)
    if key == Qt.Key.Key_Escape:
        if not view.cancel_gesture():
            view.select(())
    elif key == Qt.Key.Key_Space and not ctrl:
        if not event.isAutoRepeat():
            view.hold_hand(True)
    elif key in _ARROWS and not ctrl:
        _arrow(view, key, modifiers)
    elif key in _TABS and ctrl:
        view.commands.step(-1 if key == Qt.Key.Key_Backtab else 1)
    elif key in _ENTER and not ctrl and view.current_id() is not None:
        view.node_activated.emit(view.current_id())
    else:
        return False
    return True


def _arrow(view: CanvasView, key: Qt.Key, modifiers: Qt.KeyboardModifier) -> None:
    """Alt walks from node to node; otherwise the selection is nudged, ten steps with Shift."""
    if modifiers & Qt.KeyboardModifier.AltModifier:
        view.commands.walk(key)
    elif view.selected_ids():
        view.commands.nudge(key, bool(modifiers & Qt.KeyboardModifier.ShiftModifier))
