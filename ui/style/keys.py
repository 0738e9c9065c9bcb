"""Keys as each platform has them.

Qt calls the Command key of macOS Ctrl, so that shortcuts and selection need no cases; its Control key is
Meta there. What differs beyond that is here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence

Modifier = Qt.KeyboardModifier
_OF_PLATFORM: dict[str, dict[str, tuple[str, ...]]] = {
    "darwin": {
        "delete": ("Backspace", "Del"),  # the key labelled delete is Backspace
        "redo": ("Ctrl+Shift+Z",),
        "quit": ("Ctrl+Q", "Ctrl+W"),  # the only window: closing it ends the program
    },
    "win32": {"redo": ("Ctrl+Y", "Ctrl+Shift+Z")},
}


def keys_for(name: str, usual: Sequence[str]) -> list[QKeySequence]:
    """The shortcuts of an action on this platform; tooltips and menus show the first."""
    return [QKeySequence(key) for key in _OF_PLATFORM.get(sys.platform, {}).get(name, usual)]


def text_of(key: QKeySequence | str) -> str:
    """A shortcut as this platform writes it."""
    return QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText)


def control() -> Modifier:
    """The key labelled Ctrl (Control), also on macOS: for Ctrl+Tab."""
    return Modifier.MetaModifier if sys.platform == "darwin" else Modifier.ControlModifier


def command_word() -> str:
    """The name of the key that Qt calls Ctrl, for sentences."""
    return "Cmd" if sys.platform == "darwin" else "Ctrl"


def opens_menu(key: Qt.Key, modifiers: Modifier) -> bool:
    """Whether the keys open a context menu: Shift+F10, and Ctrl+Return on macOS. Qt handles the menu key
    itself, but not these on every platform."""
    if key == Qt.Key.Key_F10:
        return modifiers == Modifier.ShiftModifier
    enter = key in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
    return enter and sys.platform == "darwin" and modifiers == Modifier.MetaModifier
